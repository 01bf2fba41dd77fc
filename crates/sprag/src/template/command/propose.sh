#!/bin/sh
# A proposer in a few lines: moves one of the settings by one, which and whereto depends on the trial. Started in a
# checkout of the incumbent; an agent would read "$SPRAG_BRIEF" here and think.
set -eu
case $((SPRAG_TRIAL % 4)) in
    0) name=width step=1 ;;
    1) name=width step=-1 ;;
    2) name=depth step=-1 ;;
    3) name=depth step=1 ;;
esac
awk -v name="$name" -v step="$step" '$1 == name { $2 += step } { print }' settings.txt > settings.new
mv settings.new settings.txt
printf '{"title": "%s by %s", "family": "%s"}\n' "$name" "$step" "$name" > "$SPRAG_BRIEF_DIR/proposal.json"
