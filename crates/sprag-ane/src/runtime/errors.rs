//! What the framework says when it fails, as errors: domain, code and text, as they were seen by those who published them.

use super::{CompileCode, RuntimeError};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Compiling.
    Compile,
    /// Loading.
    Load,
    /// Evaluating.
    Evaluate,
}

/// The error that a failure is.
pub fn of(phase: Phase, domain: &str, code: i64, text: &str) -> RuntimeError {
    let detail = format!("{domain} code {code}: {text}");
    match phase {
        Phase::Compile => {
            let invalid = text.contains("InvalidMILProgram");
            let code = if invalid { CompileCode::InvalidMilProgram } else { CompileCode::CompilationFailure };
            RuntimeError::Compile { code, detail }
        }
        Phase::Load => {
            let code = status(text, "(").unwrap_or(code.unsigned_abs());
            RuntimeError::Load { code: i64::try_from(code).unwrap_or(i64::MAX), detail }
        }
        Phase::Evaluate => match status(text, "status=") {
            Some(0xf) => RuntimeError::Timeout(detail),
            Some(found) => {
                RuntimeError::Evaluate { status: u32::try_from(found).unwrap_or(u32::MAX), detail }
            }
            None if text.contains("timeout") => RuntimeError::Timeout(detail),
            None => RuntimeError::Evaluate { status: 0, detail },
        },
    }
}

/// A hexadecimal number behind a mark.
fn status(text: &str, mark: &str) -> Option<u64> {
    let rest = text.split(mark).find_map(|rest| rest.strip_prefix("0x"))?;
    let end = rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as maderix/ANE, Orion, PyTorch issue 110975 and oMLX 2781 tell them.
    #[test]
    fn what_was_seen_becomes_what_it_is() {
        let compiler = "com.apple.appleneuralengine.compiler";
        let engine = "com.apple.appleneuralengine";
        let refused =
            of(Phase::Compile, compiler, 1, "_ANECompiler : ANECCompile() FAILED, err=(CompilationFailure)");
        assert!(matches!(refused, RuntimeError::Compile { code: CompileCode::CompilationFailure, .. }));
        let invalid =
            of(Phase::Compile, compiler, 1, "_ANECompiler : ANECCompile() FAILED, err=(InvalidMILProgram)");
        assert!(matches!(invalid, RuntimeError::Compile { code: CompileCode::InvalidMilProgram, .. }));
        let text = "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error";
        let failed = of(Phase::Evaluate, engine, 8, text);
        assert!(matches!(failed, RuntimeError::Evaluate { status: 0x1d, .. }), "{failed}");
        for status in [0x16, 0x2] {
            let failed = of(Phase::Evaluate, engine, 8, &text.replace("0x1d", &format!("{status:#x}")));
            assert!(matches!(failed, RuntimeError::Evaluate { status: found, .. } if found == status));
        }
        let late = of(Phase::Evaluate, engine, 3, "status=0xf statusType=0x11 Program Inference timeout");
        assert!(matches!(late, RuntimeError::Timeout(_)));
        let full = of(Phase::Load, engine, 6, "Program load failure (0x20004)");
        assert!(matches!(full, RuntimeError::Load { code: 0x20004, .. }), "{full}");
        let unknown = of(Phase::Evaluate, engine, 99, "something else");
        assert!(unknown.to_string().contains("code 99: something else"));
    }
}
