#!/bin/sh
# Bring the ingest pipeline, the index template and Kibana's objects to where they belong. May be repeated at will.
#   ELASTICSEARCH_URL  http://elasticsearch:9200      ELASTICSEARCH_USERNAME, ELASTICSEARCH_PASSWORD  none
#   KIBANA_URL         http://kibana:5601, empty for no Kibana
#   WAIT_S             how long each may take to get ready, 300
# Needs a POSIX shell and curl, as in the image curlimages/curl.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
elasticsearch=${ELASTICSEARCH_URL:-http://elasticsearch:9200}
kibana=${KIBANA_URL-http://kibana:5601}
wait_s=${WAIT_S:-300}

# In a file, because a process's arguments are there for everybody to see.
secrets=$(mktemp)
trap 'rm -f "$secrets"' EXIT
if [ -n "${ELASTICSEARCH_USERNAME:-}" ]; then
    user=$(printf '%s' "$ELASTICSEARCH_USERNAME:${ELASTICSEARCH_PASSWORD:-}" | sed 's/[\\"]/\\&/g')
    printf 'user = "%s"\n' "$user" >"$secrets"
fi

send() { curl --config "$secrets" --silent --show-error --fail-with-body --max-time 60 "$@"; }

wait_for() {
    began=$(date +%s)
    until send --output /dev/null "$1" 2>/dev/null; do
        if [ $(($(date +%s) - began)) -ge "$wait_s" ]; then
            echo "setup: wanted an answer of $1 within $wait_s s, got none" >&2
            exit 1
        fi
        sleep 1
    done
}

# $1: where to, $2: the file
put() {
    echo "setup: $1"
    send --request PUT --header 'Content-Type: application/json' --data-binary "@$2" "$elasticsearch/$1"
    echo
}

wait_for "$elasticsearch/_cluster/health"
put _ingest/pipeline/embedding-logs "$here/ingest-pipeline.json"
put _index_template/embedding-logs "$here/index-template.json"

[ -n "$kibana" ] || exit 0
wait_for "$kibana/api/status"
echo "setup: Kibana's data view, search and dashboard"
answer=$(send --request POST --header 'kbn-xsrf: setup' --form "file=@$here/../kibana/embedding.ndjson" \
    "$kibana/api/saved_objects/_import?overwrite=true")
echo "$answer"
# It answers 200 even if it has refused an object.
case $answer in *'"success":true'*) ;; *) exit 1 ;; esac
