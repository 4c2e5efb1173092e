#!/bin/sh
# Requests a check, prints the link for the person, and waits for the verdict.
#
#     check.sh NAME [HOURS]
#
# It waits 72 hours by default. Its exit code is 0 if the person is verified, 1 if kubectl fails, 2 if there is no link after
# five minutes, 3 if the check has not ended in time, 4 if the resource was deleted, and 5 if the check was rejected, has expired
# or has failed.
set -eu

name=$1
hours=${2:-72}

uid=$(
  kubectl apply --filename - --output 'jsonpath={.metadata.uid}' <<END
apiVersion: okid.io/v1alpha1
kind: Verification
metadata:
  name: $name
spec:
  apiKeySecretRef:
    name: okid-api-key
END
)

# Prints a part of the resource, and nothing if the resource is gone. Fails if the API server does not answer.
get() {
  kubectl get verification "$name" --ignore-not-found --output "jsonpath={.metadata.uid} $1"
}

deleted() {
  echo 'The check was deleted.' >&2
  exit 4
}

if ! kubectl wait verification "$name" --for condition=SessionCreated --timeout 5m; then
  found=$(get '{.status.conditions[?(@.type=="Ready")].message}')
  case $found in
    "$uid "*) echo "${found#"$uid "}" >&2 ;;
    *) deleted ;;
  esac
  exit 2
fi
found=$(get '{.status.portalUrl}')
case $found in
  "$uid "*) echo "The link for the person: ${found#"$uid "}" ;;
  *) deleted ;;
esac

end=$(($(date +%s) + hours * 3600))
while [ "$(date +%s)" -lt "$end" ]; do
  # In short waits, because kubectl does not notice that the resource is deleted meanwhile.
  kubectl wait verification "$name" --for condition=Finished --timeout 20s >/dev/null 2>&1 || true
  # An API server that does not answer says nothing about the check.
  found=$(get '{.status.outcome}') || {
    sleep 5
    continue
  }
  case $found in
    "$uid Verified")
      echo 'The person is verified.'
      exit 0
      ;;
    "$uid ") ;;
    "$uid "*)
      echo "The check has ended without a verified person: ${found#"$uid "}." >&2
      exit 5
      ;;
    *) deleted ;;
  esac
done
echo "The check has not ended within $hours hours." >&2
exit 3
