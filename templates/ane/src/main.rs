//! Writes the recipe of `layer.rs` as files, which the evaluator reads once this has ended. Fixed: an agent edits `layer.rs`.

mod layer;

use std::path::Path;
use std::process::ExitCode;

use sprag_ane::config::Config;

fn write(config: &str, folder: &str) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::of(config)?;
    std::fs::create_dir_all(folder)?;
    let recipe = layer::recipe(&config)?;
    recipe.check(&config)?;
    Ok(recipe.write(Path::new(folder))?)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder] = words.as_slice() else {
        eprintln!("usage: ane-layer CONFIG FOLDER");
        return ExitCode::from(2);
    };
    match write(config, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_fits_every_configuration() {
        for name in sprag_ane::config::NAMES {
            let config = Config::of(name).unwrap();
            assert_eq!(layer::recipe(&config).unwrap().check(&config), Ok(()), "{name}");
        }
    }
}
