#!/usr/bin/env bash
#
# Usage: ./destroy-infrastructure.sh [option...]
#
# Removes what create-infrastructure.sh made, and nothing else: the stack, then its zips. The table
# with the tasks is kept unless --delete-data is given. It says what it found and asks before it
# removes anything. A task that is being worked on is cut off, and its agent may go on by itself.
# Run again, it removes what is left. Every option is an environment variable too. Exit status:
# 0 done; 1 something failed, or the answer was no; 2 wrong options.

set -euo pipefail

# shellcheck source=create-infrastructure.sh
source "$(dirname "${BASH_SOURCE[0]}")/create-infrastructure.sh"

list_options() {
  cat <<'END'
yes|YES|1|do not ask; required where nobody can answer
delete-data|DELETE_DATA|1|delete the table too, with all tasks; AWS keeps one last backup of it for 35 days
dry-run|DRY_RUN|1|say what would be removed, and remove nothing
aws-region|AWS_REGION|0|or --region; the default is as for create-infrastructure.sh
name-prefix|NamePrefix|0|which stack; empty is valro
dynamodb-table-name|DynamodbTableName|0|which table, once the stack is gone; empty is PREFIX-tasks
END
}

# Where nobody can answer, only --yes is a yes.
ask_first() {
  local answer
  is_on YES && return
  [[ -t 0 ]] || wrong_usage 'nobody is here to ask, so give --yes. Nothing was removed.'
  read -r -p 'Remove all this? [y/N] ' answer
  [[ "${answer,,}" == y || "${answer,,}" == yes ]] || die 'Nothing was removed.'
}

look_at_zips() {
  look zips '(NoSuchBucket)' aws_cli s3api list-objects-v2 "${BUCKET[@]}" --prefix "$PREFIX/" \
    --max-items 1000 --output json --query '{Objects: Contents[].{Key: Key}}' && [[ "$(<"$WORK/zips")" == *Key* ]]
}

look_at_table() {
  look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE" \
    --query Table.ItemCount
}

# The bucket goes with the last stack that has zips in it.
remove_zips() {
  local error
  aws_cli s3api delete-objects "${BUCKET[@]}" --delete "file://$WORK/zips" >/dev/null
  error="$(aws_cli s3api delete-bucket "${BUCKET[@]}" 2>&1)" \
    || [[ "$error" == *BucketNotEmpty* ]] || die "$error"
  say "zips in ${BUCKET[1]}: deleted"
}

remove_table() {
  local start="$SECONDS"
  aws_cli dynamodb delete-table --table-name "$TABLE" >/dev/null
  while look_at_table; do wait_a_moment "table $TABLE" "$start"; done
  say "table $TABLE: deleted"
}

destroy() {
  begin "$@"
  BUCKET=(--bucket "${STACK[CodeBucket]:-valro-zips-$ACCOUNT-$REGION}" --expected-bucket-owner "$ACCOUNT")
  look_at_table || GIVEN[DELETE_DATA]=''
  if [[ -z "${STACK[StackId]:-}" ]] && ! is_on DELETE_DATA && ! look_at_zips; then
    say 'There is nothing to remove.'
    return
  fi
  say "To be removed from account $ACCOUNT, region $REGION: the stack $STACK_NAME, with its API, functions," \
    "roles, logs and alarms, and its zips"
  if is_on DELETE_DATA; then
    say "and the table $TABLE, WITH ALL ITS TASKS (about $(<"$WORK/table") items)"
  else
    say "The table $TABLE is kept."
  fi
  ! is_on DRY_RUN || return 0
  ask_first
  [[ -z "${STACK[StackId]:-}" ]] || remove_stack
  ! look_at_zips || remove_zips
  ! is_on DELETE_DATA || remove_table
}

[[ "${BASH_SOURCE[0]}" != "$0" ]] || destroy "$@"
