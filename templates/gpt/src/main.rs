//! The fixed side of the candidate: it brings seed, data, clock and device, and answers the evaluator.
//! What is trained, and how, stands in `train.rs`.

mod train;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sprag_train::harness::run(train::train)
}
