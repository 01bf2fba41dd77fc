//! `sprag mcp`: the loop as tools for agents.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rmcp::ServiceExt;
use rmcp::transport::stdio;
use sprag_engine::proposer::ProposerSpec;
use sprag_measure::process::Cancel;

use super::run::SafetyArgs;
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::mcp::Server;
use crate::mcp::desk::Desk;

/// Serve the loop to an agent over the Model Context Protocol, on standard input and output
///
/// The agent starts or resumes a run, reads the brief, proposes changes, waits for verdicts and reads the history; it
/// cannot score, decide or leave the sandbox. A run that it starts ends with this server and resumes with the next one.
/// Proposals go to the run's inbox, so it also serves a run that `sprag run --proposer inbox` carries on elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: claude mcp add sprag -- sprag mcp --task ~/experiments/gpt")]
pub struct Args {
    /// Folder of the task, or one below it
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".")]
    task: PathBuf,
    /// Also let the agent start runs with this proposer, besides `inbox` and `search`
    #[arg(long, value_name = "PROPOSER")]
    proposer: Vec<ProposerSpec>,
    #[command(flatten)]
    safety: SafetyArgs,
}

/// Serves until the client closes its end.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    // Found out before a client is connected.
    context.task(&args.task)?;
    let interrupt = Interrupt::watch()?;
    let signals = interrupt.kill.clone();
    let desk = Desk::new(
        context.clone(),
        args.task,
        args.proposer,
        args.safety.allow_unsandboxed,
        interrupt.kill.below(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the server")?;
    let server = Server::new(desk);
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve(server.clone()) => served,
            () = asked(signals) => Ok(()),
        }
    });
    // What the client started ends with it, at once: everything recorded stays.
    server.close();
    runtime.shutdown_background();
    served.map(|()| if interrupt.happened() { ExitCode::Interrupted } else { ExitCode::Success })
}

async fn serve(server: Server) -> anyhow::Result<()> {
    let service = server.serve(stdio()).await.context("cannot greet the client")?;
    service.waiting().await.map(drop).context("the server broke down")
}

/// Until a signal asks the program to end.
async fn asked(signals: Cancel) {
    // Of a thread that ends with the program.
    let _ = tokio::task::spawn_blocking(move || while !signals.sleep(Duration::from_secs(3600)) {}).await;
}
