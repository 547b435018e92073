#!/bin/sh
# Plays a coding agent at the keyboard: edit train.py, `try`, `wait` in slices, read the block, go on.
# Run in a checkout whose train.py is tests/toys/train_scripted.py; prints the whole session. $PYTHON runs agent_loop.py.
#
#     PYTHON='uv run python' sh tests/toys/coding_agent.sh 14.0 6.0 20.0
set -u
for value in "$@"; do
    printf '\n$ edit train.py: the return becomes %s\n' "$value"
    sed -i.bak "s/\"return\": [-0-9.]*/\"return\": $value/" train.py && rm -f train.py.bak
    echo "\$ agent_loop.py try -m \"return $value: what and why\""
    left=$($PYTHON agent_loop.py try -m "return $value: what and why" --runner scripted --env-id Pendulum-v1) || exit 1
    echo "$left"
    id=$(echo "$left" | sed -n 's/^id: *//p')
    while :; do
        echo "\$ agent_loop.py wait $id --timeout 5"
        $PYTHON agent_loop.py wait "$id" --timeout 5
        code=$?
        echo "(exit code $code)"
        [ "$code" -eq 4 ] || break # 4: still running, call it again
    done
    [ "$code" -eq 0 ] || exit "$code"
done
printf '\n$ agent_loop.py history\n'
$PYTHON agent_loop.py history
