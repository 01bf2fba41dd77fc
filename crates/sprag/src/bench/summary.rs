//! What the goes say together: medians with their spread, shares of what memory gave, and where a token's time goes.

use serde::Serialize;
use sprag_measure::probe::{Power, Sample};

use super::Reading;

/// One runtime with all that was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// As it was asked for.
    pub asked: String,
    /// Name and version.
    pub name: String,
    /// Seconds until the model was loaded; of servers and commands not known.
    pub load_seconds: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// All goes.
    pub readings: Vec<Reading>,
}

/// One runtime at one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The length that was asked for.
    pub prompt: u32,
    /// Tokens that the prompt really had.
    pub prompt_tokens: u32,
    /// Tokens of the prompt a second.
    pub prefill: Sample,
    /// Operations of prefill a second, over those of a matrix product of the same go.
    pub of_product: Option<Sample>,
    /// Seconds until the first token.
    pub first_token_seconds: Sample,
    /// Tokens a second after the first.
    pub decode: Option<Sample>,
    /// Bytes that decode read a second, over corrected Triad of the same go.
    pub of_triad: Option<Sample>,
    /// The same over reading.
    pub of_read: Option<Sample>,
    /// The same over reading in one stream a core.
    pub of_one_stream: Option<Sample>,
    /// Joules of a token, prompt and answer together; or why it is not known.
    pub joules_a_token: Result<Sample, String>,
    /// Where the time of a token goes.
    pub token: Option<TokenTime>,
    /// Goes that ended before all tokens were made.
    pub ended_early: usize,
    /// Most that other processes used of the processors in a go.
    pub other_processes: Option<f64>,
    /// Most that a hypervisor took in a go.
    pub steal: Option<f64>,
}

/// The time of a token after the prompt, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenTime {
    /// All of it.
    pub seconds: f64,
    /// Reading what must be read, at the rate of corrected Triad.
    pub reading: f64,
    /// Reading the same in one stream a core.
    pub one_stream: f64,
    /// What a token of a long prompt takes: arithmetic, which may hide behind the reading.
    pub computing: f64,
    /// What is more than the longest of these: what hides nowhere.
    pub rest: f64,
}

/// What a model asks of a machine.
pub struct Needs<'a> {
    /// Bytes that are read for a token after so many positions.
    pub bytes: &'a dyn Fn(u32) -> f64,
    /// Operations of a token of a prompt of so many, in the mean.
    pub prompt_flop: &'a dyn Fn(u32) -> f64,
}

/// Rows by length; `generate` is how many tokens were to be made.
pub fn rows(measured: &Measured, prompts: &[u32], generate: u32, needs: &Needs<'_>) -> Vec<Row> {
    prompts.iter().filter_map(|prompt| row(measured, *prompt, generate, needs)).collect()
}

fn row(measured: &Measured, prompt: u32, generate: u32, needs: &Needs<'_>) -> Option<Row> {
    let own: Vec<&Reading> = measured.readings.iter().filter(|reading| reading.asked == prompt).collect();
    let values =
        |of: &dyn Fn(&Reading) -> Option<f64>| -> Vec<f64> { own.iter().filter_map(|one| of(one)).collect() };
    let most = |of: &dyn Fn(&Reading) -> Option<f64>| values(of).into_iter().reduce(f64::max);
    let prefill = Sample::of(&values(&|one| Some(one.timing.prefill())))?;
    let decode = Sample::of(&values(&|one| one.timing.decode()));
    // In the middle of the answer.
    let read = (needs.bytes)(own.first()?.timing.prompt + generate / 2);
    let share = |of: &dyn Fn(&Reading) -> Option<f64>| {
        Sample::of(&values(&|one| Some(one.timing.decode()? * read / of(one)?)))
    };
    let of_triad = share(&|one| Some(one.memory?.triad));
    let joules = values(&|one| match &one.power {
        Power::Watts(watts) => {
            let timing = one.timing;
            let tokens = f64::from(timing.prompt + timing.generated);
            Some(watts * (timing.prompt_seconds + timing.decode_seconds) / tokens)
        }
        Power::NotReadable(_) => None,
    });
    let why = own.iter().find_map(|one| match &one.power {
        Power::NotReadable(why) => Some(why.clone()),
        Power::Watts(_) => None,
    });
    let triad = Sample::of(&values(&|one| Some(one.memory?.triad)));
    let stream = Sample::of(&values(&|one| Some(one.memory?.read_one_stream)));
    let token = decode.zip(triad).zip(stream).map(|((decode, triad), stream)| {
        let (seconds, reading, one_stream) = (1.0 / decode.median, read / triad.median, read / stream.median);
        let computing = 1.0 / prefill.median;
        let rest = (seconds - reading.max(one_stream).max(computing)).max(0.0);
        TokenTime { seconds, reading, one_stream, computing, rest }
    });
    Some(Row {
        prompt,
        prompt_tokens: own.first()?.timing.prompt,
        prefill,
        of_product: Sample::of(&values(&|one| {
            Some(one.timing.prefill() * (needs.prompt_flop)(one.timing.prompt) / one.flop_per_second?)
        })),
        first_token_seconds: Sample::of(&values(&|one| Some(one.timing.prompt_seconds)))?,
        decode,
        of_triad,
        of_read: share(&|one| Some(one.memory?.read)),
        of_one_stream: share(&|one| Some(one.memory?.read_one_stream)),
        joules_a_token: Sample::of(&joules).ok_or_else(|| why.unwrap_or_default()),
        token,
        ended_early: own.iter().filter(|one| one.timing.generated < generate).count(),
        other_processes: most(&|one| one.other_processes),
        steal: most(&|one| one.steal),
    })
}

/// The fastest over the slowest: what the runtime is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// How many times as fast.
    pub times: f64,
    /// The fastest.
    pub best: String,
    /// The slowest.
    pub worst: String,
}

/// Of some rates by name; `None` with fewer than two.
pub fn worth(rates: &[(String, f64)]) -> Option<Worth> {
    let best = rates.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let worst = rates.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    (rates.len() > 1).then(|| Worth { times: best.1 / worst.1, best: best.0.clone(), worst: worst.0.clone() })
}

#[cfg(test)]
pub mod tests {
    use sprag_measure::probe::MemoryNow;

    use super::super::Timing;
    use super::*;

    pub fn measured(name: &str, decode: f64) -> Measured {
        let reading = |go: u32| Reading {
            asked: 128,
            timing: Timing {
                prompt: 128,
                prompt_seconds: 1.0,
                generated: 33,
                decode_seconds: 32.0 / (decode * (1.0 + 0.01 * (f64::from(go) - 2.0))),
            },
            flop_per_second: Some(512e9),
            memory: Some(MemoryNow { read: 50e9, read_one_stream: 38e9, triad: 40e9 }),
            other_processes: Some(0.02 * f64::from(go)),
            steal: Some(0.0),
            power: Power::NotReadable("no counter".to_owned()),
        };
        Measured {
            asked: name.to_owned(),
            name: format!("{name} 1"),
            load_seconds: Some(0.5),
            memory_bytes: Some(1 << 30),
            readings: (0..5).map(reading).collect(),
        }
    }

    #[test]
    fn rows_tell_medians_shares_and_where_the_time_goes() {
        let needs = Needs { bytes: &|_| 0.8e9, prompt_flop: &|_| 2e9 };
        let rows = rows(&measured("a", 45.0), &[128, 256], 33, &needs);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        let decode = row.decode.unwrap();
        assert!((decode.median - 45.0).abs() < 1e-9 && decode.n == 5 && decode.low < decode.high);
        // 45 tokens/s x 0.8 GB over 40 GB/s.
        assert!((row.of_triad.unwrap().median - 0.9).abs() < 1e-9);
        assert!((row.of_read.unwrap().median - 0.72).abs() < 1e-9);
        // 128 tokens/s x 2e9 over 512e9.
        assert!((row.of_product.unwrap().median - 0.5).abs() < 1e-9);
        let token = row.token.unwrap();
        assert!((token.reading - 0.02).abs() < 1e-12 && (token.computing - 1.0 / 128.0).abs() < 1e-12);
        assert!((token.rest - (1.0 / 45.0 - 0.8 / 38.0)).abs() < 1e-9);
        assert_eq!(row.joules_a_token, Err("no counter".to_owned()));
        assert_eq!((row.ended_early, row.other_processes), (0, Some(0.08)));
    }

    #[test]
    fn the_runtime_is_worth_the_fastest_over_the_slowest() {
        let rates = [("a".to_owned(), 20.0), ("b".to_owned(), 42.0), ("c".to_owned(), 30.0)];
        let found = worth(&rates).unwrap();
        assert_eq!((found.times, found.best.as_str(), found.worst.as_str()), (2.1, "b", "a"));
        assert_eq!(worth(&rates[..1]), None);
    }
}
