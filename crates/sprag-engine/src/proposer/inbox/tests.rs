use sprag_measure::process::Cancel;

use super::*;
use crate::proposer::edits::Edit;
use crate::proposer::fixture::Place;
use crate::proposer::parse_proposer;

/// A proposer that waits on a thread of its own, while the test is the other program.
struct Bench {
    place: Place,
    limits: AskingLimits,
    stop: Cancel,
}

fn edit(search: &str, replace: &str) -> Parcel {
    let edit = Edit { path: "src/train.rs".into(), search: search.into(), replace: replace.into() };
    let title = Some("Halve it".to_owned());
    Parcel { offer: Offer { title, edits: vec![edit], ..Offer::default() }, patch: None }
}

impl Bench {
    fn new() -> Bench {
        let limits = AskingLimits { agent_timeout: Duration::from_secs(60), ..AskingLimits::default() };
        Bench { place: Place::new(), limits, stop: Cancel::default() }
    }

    fn inbox(&self) -> PathBuf {
        self.place.dir.path().join(".sprag/inbox")
    }

    /// What the proposer says, and what the other program saw.
    fn ask<T: Send>(
        &self,
        note: Option<&str>,
        other: impl FnOnce(&Path) -> T + Send,
    ) -> (Result<Proposal, Declined>, T) {
        let inbox = self.inbox();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                while waiting(&inbox).is_none() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other(&inbox)
            });
            let spec = parse_proposer("inbox").unwrap();
            let mut proposer = spec.open_with(&self.place.task, &[], &self.limits);
            let proposal = self.place.with_brief(|brief| {
                proposer.propose(&Brief { inbox: &inbox, stop: &self.stop, note, ..*brief })
            });
            (proposal, other.join().unwrap())
        })
    }
}

fn patient(inbox: &Path, parcel: &Parcel) -> Option<Receipt> {
    offer(inbox, parcel, Duration::from_secs(10)).unwrap()
}

#[test]
fn an_offer_is_tried_and_one_that_cannot_be_is_refused_while_its_maker_hears_it() {
    let bench = Bench::new();
    let (proposal, (wanted, refused, accepted)) = bench.ask(None, |inbox| {
        let refused: Vec<Option<Receipt>> = [
            edit("rate = 3", "rate = 1"),
            Parcel {
                patch: Some("--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-all:\n+none:\n".into()),
                ..Parcel::default()
            },
            Parcel {
                patch: Some("--- a/src/x\n+++ b/src/x\n@@ -1 +1 @@\n-a\n+b\n".into()),
                ..Parcel::default()
            },
            Parcel { offer: Offer { exhausted: Some("done".into()), ..Offer::default() }, patch: None },
            Parcel::default(),
        ]
        .iter()
        .map(|parcel| patient(inbox, parcel))
        .collect();
        fs::write(inbox.join("0.offer.json"), "{").unwrap();
        (waiting(inbox).unwrap(), refused, patient(inbox, &edit("rate = 2", "rate = 1")))
    });
    assert_eq!((wanted.trial, wanted.wanted), (1, Wanted::Proposal));
    let said: Vec<String> = refused.iter().map(|receipt| format!("{receipt:?}")).collect();
    for (receipt, part) in said.iter().zip([
        "Edit 1",
        "Makefile changed and is not mutable",
        "does not apply",
        "another family",
        "no edit",
    ]) {
        assert!(receipt.contains("Refused") && receipt.contains(part), "{part}: {receipt}");
    }
    assert_eq!(accepted, Some(Receipt::Accepted(1)));
    assert_eq!(proposal.unwrap().title, "Halve it");
    let text = fs::read_to_string(bench.place.worktree().join("src/train.rs")).unwrap();
    assert_eq!(text, "let rate = 1;\n", "a refused offer left nothing behind");
    assert!(bench.place.kept("brief.md").contains("let rate = 2;"));
    assert_eq!(waiting(&bench.inbox()), None);
    let left: Vec<_> = fs::read_dir(bench.inbox()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["0.receipt.json"], "of an offer whose maker is gone");
}

#[test]
fn a_patch_is_an_offer_too_and_a_second_thought_may_let_it_stand() {
    let patch = "--- a/src/train.rs\n+++ b/src/train.rs\n@@ -1 +1 @@\n-let rate = 2;\n+let rate = 1;\n";
    let bench = Bench::new();
    let parcel = Parcel { patch: Some(patch.into()), ..Parcel::default() };
    let (proposal, receipt) = bench.ask(None, |inbox| patient(inbox, &parcel));
    assert_eq!(receipt, Some(Receipt::Accepted(1)));
    assert_eq!(proposal.unwrap().title, "change src/train.rs");

    let (_, wanted) = bench.ask(Some("It is like trial 3."), |inbox| {
        let wanted = waiting(inbox).unwrap().wanted;
        // The worktree of this test holds no proposal, so letting it stand changes nothing.
        assert!(matches!(patient(inbox, &Parcel::default()), Some(Receipt::Refused(why)) if why.contains("no file")));
        patient(inbox, &edit("rate = 2", "rate = 1"));
        wanted
    });
    assert_eq!(wanted, Wanted::SecondThought);
}

#[test]
fn a_person_who_stops_the_run_and_a_long_silence_end_the_waiting() {
    let bench = Bench::new();
    let stop = bench.stop.clone();
    let (answer, ()) = bench.ask(None, |_| stop.cancel());
    assert_eq!(answer, Err(Declined::Stopped));
    let mut bench = Bench::new();
    bench.limits.agent_timeout = Duration::from_millis(100);
    let (answer, ()) = bench.ask(None, |_| {});
    assert!(
        matches!(&answer, Err(Declined::Exhausted(why)) if why.contains("nobody proposed")),
        "{answer:?}"
    );
}

#[test]
fn an_offer_that_nobody_takes_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let receipt = offer(dir.path(), &edit("a", "b"), Duration::from_millis(100)).unwrap();
    assert_eq!(receipt, None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
