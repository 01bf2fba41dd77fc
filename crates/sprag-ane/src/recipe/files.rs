//! Recipes as files: `recipe.json` names programs and weight files that lie beside it. What strangers wrote is read with care:
//! names lead nowhere else, and sizes are bounded.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Host, Kernel, Node, Part, Recipe};
use crate::graphs::Graph;
use crate::mil::Program;

/// Version of the form.
const VERSION: u32 = 1;
/// Most steps of a recipe, and most bytes of a file.
const MOST_NODES: usize = 1000;
const MOST_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    name: String,
    forward: Vec<FileNode>,
    backward: Vec<FileNode>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FileNode {
    Host(Host),
    Kernel {
        name: String,
        /// File of the program's text.
        program: String,
        /// Files of weights, by the names that the program gives them.
        weights: BTreeMap<String, String>,
        parts: Vec<Part>,
        outputs: Vec<(Option<String>, usize)>,
    },
}

/// Why a recipe is not read or written.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct FileError {
    file: String,
    problem: String,
}

fn failed(file: impl AsRef<Path>, problem: impl std::fmt::Display) -> FileError {
    FileError { file: file.as_ref().display().to_string(), problem: problem.to_string() }
}

impl Recipe {
    /// Writes it into a folder that is there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|error| failed(&path, error))
        };
        let mut count = 0;
        let mut node = |node: &Node| -> Result<FileNode, FileError> {
            let kernel = match node {
                Node::Host(host) => return Ok(FileNode::Host(host.clone())),
                Node::Kernel(kernel) => kernel,
            };
            let program = format!("{count}.mil");
            put(&program, kernel.graph.program.to_string().as_bytes())?;
            let mut weights = BTreeMap::new();
            for (at, (name, bytes)) in kernel.graph.weights.iter().enumerate() {
                let file = format!("{count}.{at}.bin");
                put(&file, bytes)?;
                weights.insert(name.clone(), file);
            }
            count += 1;
            let Kernel { graph, parts, outputs } = kernel;
            Ok(FileNode::Kernel {
                name: graph.name.clone(),
                program,
                weights,
                parts: parts.clone(),
                outputs: outputs.clone(),
            })
        };
        let forward = self.forward.iter().map(&mut node).collect::<Result<_, _>>()?;
        let backward = self.backward.iter().map(&mut node).collect::<Result<_, _>>()?;
        let file = File { version: VERSION, name: self.name.clone(), forward, backward };
        let text = serde_json::to_string_pretty(&file).map_err(|error| failed("recipe.json", error))?;
        put("recipe.json", text.as_bytes())
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is missing, too large, or not as it should be.
    pub fn read(folder: &Path) -> Result<Recipe, FileError> {
        let take = |name: &str| -> Result<Vec<u8>, FileError> {
            if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
                return Err(failed(name, "a file of a recipe lies beside it"));
            }
            let path = folder.join(name);
            let size = std::fs::metadata(&path).map_err(|error| failed(&path, error))?.len();
            if size > MOST_BYTES {
                return Err(failed(&path, format!("it has {size} bytes, and {MOST_BYTES} are read")));
            }
            std::fs::read(&path).map_err(|error| failed(&path, error))
        };
        let file: File =
            serde_json::from_slice(&take("recipe.json")?).map_err(|error| failed("recipe.json", error))?;
        if file.version != VERSION {
            return Err(failed(
                "recipe.json",
                format!("it has version {}, and {VERSION} is read", file.version),
            ));
        }
        let count = file.forward.len().saturating_add(file.backward.len());
        if count > MOST_NODES {
            return Err(failed("recipe.json", format!("it has {count} steps, and {MOST_NODES} are read")));
        }
        let node = |node: FileNode| -> Result<Node, FileError> {
            let (name, program, weights, parts, outputs) = match node {
                FileNode::Host(host) => return Ok(Node::Host(host)),
                FileNode::Kernel { name, program, weights, parts, outputs } => {
                    (name, program, weights, parts, outputs)
                }
            };
            let text = String::from_utf8(take(&program)?).map_err(|error| failed(&program, error))?;
            let program = Program::parse(&text).map_err(|error| failed(&program, error))?;
            let mut files = BTreeMap::new();
            for (name, file) in weights {
                files.insert(name, take(&file)?);
            }
            Ok(Node::Kernel(Kernel { graph: Graph { name, program, weights: files }, parts, outputs }))
        };
        let forward = file.forward.into_iter().map(node).collect::<Result<_, _>>()?;
        let backward = file.backward.into_iter().map(node).collect::<Result<_, _>>()?;
        Ok(Recipe { name: file.name, forward, backward })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::graphs::Rotary;
    use crate::recipe::Fused;

    #[test]
    fn a_recipe_comes_back_and_names_lead_nowhere_else() {
        let config = Config::of("tiny").unwrap();
        let recipe = Recipe::new(&config, Rotary::Permute, Fused::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        recipe.write(folder.path()).unwrap();
        assert_eq!(Recipe::read(folder.path()).unwrap(), recipe);
        let json = folder.path().join("recipe.json");
        let text = std::fs::read_to_string(&json).unwrap();
        let with = |from: &str, to: &str| {
            std::fs::write(&json, text.replacen(from, to, 1)).unwrap();
            Recipe::read(folder.path()).unwrap_err().to_string()
        };
        assert!(with("\"0.mil\"", "\"../0.mil\"").contains("lies beside it"));
        assert!(with("\"0.mil\"", "\"7777.mil\"").contains("7777.mil"));
        assert!(with("\"version\": 1", "\"version\": 2").contains("version 2"));
        assert!(with("\"norm\"", "\"dance\"").contains("unknown variant"));
    }
}
