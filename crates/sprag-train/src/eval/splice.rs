//! False suffixes: text that breaks off again and again, each time at a token that nobody could know.
//!
//! After a break the text goes on as it does at a random other place that follows the same token, so that a
//! model of pairs of tokens sees nothing odd. Beside each such token stand others drawn in the same way: who
//! sees only what comes before cannot tell them apart, which is what `foresight` rests on.

use super::corpus::Windows;
use super::plan::PrivateRandom;

/// Tokens between two breaks: few, for many breaks; at least as many as let the text look like text.
const LEAST_GAP: usize = 4;
const GAPS: usize = 13;

/// Tokens drawn beside the one that is shown. With more, foresight of a rare token counts for more.
const DECOYS: usize = 63;

/// A place where one text breaks off and another goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Splice {
    /// Position of the other text's first token.
    pub(super) at: usize,
    /// Tokens that could as well have stood there: drawn as that one was, independently.
    pub(super) decoys: Vec<u32>,
}

/// Where to find the token that follows: window and position.
type Place = (usize, usize);

/// Knows after which token stands which.
pub(super) struct Splicer<'a> {
    windows: &'a Windows,
    /// By token: all places right after it.
    after: Vec<Vec<Place>>,
}

impl<'a> Splicer<'a> {
    pub(super) fn new(windows: &'a Windows) -> Self {
        let mut after = vec![Vec::new(); windows.vocab_size()];
        for window in 0..windows.len() {
            for (at, &before) in windows.inputs(window)[..windows.seq_len() - 1].iter().enumerate() {
                after[before as usize].push((window, at + 1));
            }
        }
        Splicer { windows, after }
    }

    /// The window up to `from`, then other text; the first token surely differs. The first splice is there.
    pub(super) fn with_other_suffix(
        &self,
        window: usize,
        from: usize,
        random: &mut PrivateRandom,
    ) -> (Vec<u32>, Vec<Splice>) {
        let mut tokens = self.windows.inputs(window).to_vec();
        let mut splices = Vec::new();
        let mut at = from;
        while at < tokens.len() {
            let (decoys, copied) = self.splice(&mut tokens, at, random);
            splices.push(Splice { at, decoys });
            at += copied.min(LEAST_GAP + random.below(GAPS));
        }
        (tokens, splices)
    }

    /// Lets the text go on in another way at `at`; returns the decoys and how many tokens were copied.
    fn splice(&self, tokens: &mut [u32], at: usize, random: &mut PrivateRandom) -> (Vec<u32>, usize) {
        let pool = self.pool(tokens[at - 1], tokens[at]);
        if pool.is_empty() {
            // The text knows one token alone: any other will do, and nothing can be learned from it.
            let vocab_size = self.windows.vocab_size() as u32;
            tokens[at] = (tokens[at] + 1) % vocab_size;
            return (Vec::new(), 1);
        }
        let mut draw = || pool[random.below(pool.len())];
        let (window, from) = draw();
        let decoys = (0..DECOYS).map(|_| draw()).map(|place| self.token(place)).collect();
        let source = &self.windows.inputs(window)[from..];
        let copied = source.len().min(tokens.len() - at);
        tokens[at..at + copied].copy_from_slice(&source[..copied]);
        (decoys, copied)
    }

    /// Places after this token where another one than `not` stands; any places where there is none.
    fn pool(&self, before: u32, not: u32) -> Vec<Place> {
        let differs = |place: &Place| self.token(*place) != not;
        let close: Vec<Place> = self.after[before as usize].iter().copied().filter(differs).collect();
        if close.is_empty() { self.after.iter().flatten().copied().filter(differs).collect() } else { close }
    }

    fn token(&self, (window, at): Place) -> u32 {
        self.windows.inputs(window)[at]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::corpus::Counting;
    use super::*;

    #[test]
    fn each_break_follows_a_pair_of_tokens_that_stands_somewhere() {
        let windows = Windows::draw(&Counting::default(), 64, 60).unwrap();
        let splicer = Splicer::new(&windows);
        let mut random = PrivateRandom::from_seed(3);
        for window in 0..windows.len() {
            let (tokens, splices) = splicer.with_other_suffix(window, 9, &mut random);
            assert_eq!(splices[0].at, 9);
            assert!(splices.windows(2).all(|pair| pair[1].at - pair[0].at < LEAST_GAP + GAPS));
            for Splice { at, decoys } in splices {
                let known = |token| {
                    let pair = [tokens[at - 1], token];
                    (0..windows.len()).any(|other| windows.inputs(other).windows(2).any(|two| two == pair))
                };
                assert!(known(tokens[at]) && decoys.into_iter().all(known), "at {at} of window {window}");
            }
        }
    }

    #[test]
    fn what_is_shown_and_its_decoys_are_drawn_alike() {
        let windows = Windows::draw(&Counting::default(), 64, 60).unwrap();
        let splicer = Splicer::new(&windows);
        let mut random = PrivateRandom::from_seed(4);
        let (mut shown, mut decoys) = (0.0, 0.0);
        for window in (0..windows.len()).cycle().take(3000) {
            let (tokens, splices) = splicer.with_other_suffix(window, 20, &mut random);
            shown += f64::from(tokens[20]);
            decoys += splices[0].decoys.iter().copied().map(f64::from).sum::<f64>() / DECOYS as f64;
        }
        // Tokens are 1 to 11, so a mean of 3000 of them has a standard error of 0.06.
        assert!((shown - decoys).abs() / 3000.0 < 0.3, "{shown} and {decoys}");
    }
}
