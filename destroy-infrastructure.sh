#!/usr/bin/env bash
#
# Usage: ./destroy-infrastructure.sh [option...]
#
# Removes what create-infrastructure.sh made, and nothing else: the stack, its zips, and their bucket
# once no stack has zips in it. The table with the tasks is kept unless --delete-data is given, and so
# is a bucket that create-infrastructure.sh did not make. It says what it found and asks before it
# removes anything. A task that is being worked on is cut off, and its agent may go on by itself.
# Run it again to remove what is left. Every option is an environment variable too. Exit status:
# 0 done; 1 something failed, or the answer was no; 2 wrong options.

set -euo pipefail

# shellcheck source=create-infrastructure.sh
source "$(dirname "${BASH_SOURCE[0]}")/create-infrastructure.sh"

list_options() {
  cat <<'END'
yes|YES|1|do not ask; required where nobody can answer
delete-data|DELETE_DATA|1|delete the table too, with all tasks; AWS keeps one last backup of it for 35 days
dry-run|DRY_RUN|1|show what would be removed, and remove nothing
aws-region|AWS_REGION|0|or --region; the default is as for create-infrastructure.sh
role-arn|ROLE_ARN|0|a role for CloudFormation to use; empty is the one that the stack has, or else your credentials
name-prefix|NamePrefix|0|which stack; empty is valro
dynamodb-table-name|DynamodbTableName|0|which table, once the stack is gone; empty is PREFIX-tasks
code-bucket|CodeBucket|0|the bucket with the zips, once the stack is gone; empty is valro-zips-ACCOUNT-REGION
END
}

# Where nobody can answer, only --yes is a yes.
ask_first() {
  local answer
  is_on YES && return
  [[ -t 0 ]] || wrong_usage 'there is nobody to ask here, so give --yes. Nothing was removed.'
  read -r -p 'Remove all this? [y/N] ' answer
  [[ "${answer,,}" == y || "${answer,,}" == yes ]] || die 'Nothing was removed.'
}

# What create-infrastructure.sh put there, PREFIX/HASH.zip, as a request that deletes a thousand of them.
look_at_zips() {
  look keys '(NoSuchBucket)' aws_cli s3api list-objects-v2 "${BUCKET[@]}" --prefix "$PREFIX/" \
    --query 'Contents[].[Key]' || return 1
  grep -Ex "$PREFIX/[0-9a-f]{64}\.zip" "$WORK/keys" | head -n 1000 | sed 's/.*/{"Key": "&"}/' \
    | paste -sd , - | sed 's/.*/{"Quiet": true, "Objects": [&]}/' >"$WORK/zips"
}

# Whether it has the mark that create-infrastructure.sh puts on a bucket of its own.
is_own_bucket() {
  look tags '(NoSuch' aws_cli s3api get-bucket-tagging "${BUCKET[@]}" \
    --query "TagSet[?Key=='made-by' && Value=='valro/create-infrastructure.sh'].Value" \
    && [[ -n "$(<"$WORK/tags")" ]]
}

# Stops before a table that is not Valro's, or that somebody protects.
look_at_table() {
  local is_ours is_protected
  look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE" --query "Table.[
    ItemCount, KeySchema[0].AttributeName == 'id' && length(KeySchema) == \`1\` && contains(
    GlobalSecondaryIndexes[?Projection.ProjectionType == 'KEYS_ONLY'].IndexName || \`[]\`,
    'owner-created_at-index'), DeletionProtectionEnabled]" || return 1
  read -r ITEMS is_ours is_protected <"$WORK/table"
  ! is_on DELETE_DATA || [[ "$is_ours" == True ]] \
    || die "the table $TABLE is not one that create-infrastructure.sh made. Nothing was removed."
  ! is_on DELETE_DATA || [[ "$is_protected" != True ]] \
    || die "the table $TABLE is protected from deletion. Nothing was removed. To allow it:" \
      "./create-infrastructure.sh --name-prefix $PREFIX --table-deletion-protection=false"
}

# The bucket goes with the last stack that has zips in it.
remove_zips() {
  local errors
  while look_at_zips; do
    errors="$(aws_cli s3api delete-objects "${BUCKET[@]}" --delete "file://$WORK/zips" --query 'Errors[].Message')"
    [[ -z "$errors" || "$errors" == None ]] || die "$errors"
    say "zips in ${BUCKET[1]}: deleted"
  done
  if ! is_own_bucket; then
    [[ "$(<"$WORK/tags.error")" == *NoSuchBucket* ]] \
      || say "bucket ${BUCKET[1]}: kept, since create-infrastructure.sh did not make it"
    return 0
  fi
  errors="$(aws_cli s3api delete-bucket "${BUCKET[@]}" 2>&1)" \
    || [[ "$errors" == *BucketNotEmpty* ]] || die_of_aws "$errors"
}

remove_table() {
  local start="$SECONDS"
  aws_cli dynamodb delete-table --table-name "$TABLE" >/dev/null
  while look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE"; do
    wait_a_moment "table $TABLE" "$start"
  done
  say "table $TABLE: deleted"
}

destroy() {
  local name bucket
  begin "$@"
  for name in CodeBucket DynamodbTableName; do
    [[ -z "${STACK[StackId]:-}" || -z "${GIVEN[$name]:-}" || "${GIVEN[$name]}" == "${STACK[$name]:-}" ]] \
      || die "the $name of stack $STACK_NAME is not ${GIVEN[$name]}. Nothing was removed."
  done
  BUCKET=(--bucket "${GIVEN[CodeBucket]:-${STACK[CodeBucket]:-valro-zips-$ACCOUNT-$REGION}}" --expected-bucket-owner "$ACCOUNT")
  look_at_table || GIVEN[DELETE_DATA]=''
  if [[ -z "${STACK[StackId]:-}" ]] && ! is_on DELETE_DATA && ! look_at_zips; then
    say 'There is nothing to remove.'
    return
  fi
  bucket="its zips in the bucket ${BUCKET[1]}"
  ! is_own_bucket || bucket+=', and that bucket unless another stack has zips in it'
  say "To be removed from account $ACCOUNT, region $REGION: the stack $STACK_NAME, with its API, functions," \
    "roles, logs and alarms; $bucket"
  if is_on DELETE_DATA; then
    say "and the table $TABLE, WITH ALL ITS TASKS (about $ITEMS items)"
  else
    say "The table $TABLE is kept."
  fi
  ! is_on DRY_RUN || return 0
  ask_first
  [[ -z "${STACK[StackId]:-}" ]] || remove_stack
  remove_zips
  ! is_on DELETE_DATA || remove_table
}

[[ "${BASH_SOURCE[0]}" != "$0" ]] || destroy "$@"
