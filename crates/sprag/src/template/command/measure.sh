#!/bin/sh
# Fixed: computes the score of settings.txt. How far the two settings are from the best ones, which a proposer is not
# told, with a little noise that depends on the seed: measure.sh SEED
exec awk -v seed="$(($1 % 1000003))" '
    { setting[$1] = $2 }
    END {
        srand(seed)
        rand() # The first number of some awks is almost the same for all seeds.
        noise = (rand() + rand() + rand() - 1.5) * 0.2
        printf "loss %.6f\n", (setting["width"] - 3) ^ 2 + (setting["depth"] + 1) ^ 2 + noise
    }' settings.txt
