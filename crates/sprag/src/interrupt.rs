//! Ctrl-C: once stops after the step under way is recorded, twice kills. A signal that asks the program to
//! end (SIGTERM, SIGHUP) kills at once; either way the ledger is intact and the same command resumes.

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sprag_measure::process::Cancel;

/// The two ways to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// Stop when the step under way is recorded.
    pub cancel: Cancel,
    /// Stop at once.
    pub kill: Cancel,
}

impl Interrupt {
    /// Watches for signals from now on, on a thread of its own.
    pub fn watch() -> anyhow::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for Ctrl-C")?;
        let told = interrupt.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if signal == SIGINT && !told.cancel.is_cancelled() {
                    told.cancel.cancel();
                    eprintln!("\nstopping once the step under way is recorded; Ctrl-C again kills it");
                } else {
                    told.cancel.cancel();
                    told.kill.cancel();
                    eprintln!("\nstopping now; the measurement under way is lost, everything recorded stays");
                }
            }
        });
        Ok(interrupt)
    }

    /// True once any of the two was asked for.
    pub fn happened(&self) -> bool {
        self.cancel.is_cancelled() || self.kill.is_cancelled()
    }
}
