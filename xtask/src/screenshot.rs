//! Pictures of a report in a headless browser, as wide as a desk's screen and as a telephone's: whether a page
//! looks right, somebody has to see. Where there is no browser it says so aloud and makes none.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sprag_measure::process::{self, Cancel, Command, Limits};

/// Widths in pixels, each with a height that holds a long report.
const SIZES: &[(u32, u32)] = &[(1280, 6000), (400, 9000)];

/// Names under which browsers of the Chromium family are started.
const BROWSERS: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chrome-headless-shell",
    "headless_shell",
];

/// Where macOS keeps one.
const APPLICATION: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/// Time for one picture.
const LIMIT: Duration = Duration::from_secs(120);

/// Writes `<report>-<width>.png` beside the report, for each width.
pub fn run(report: &Path) -> Result<String> {
    let report = report.canonicalize().with_context(|| {
        format!("open {}; name one: cargo run -p xtask -- screenshot REPORT.html", report.display())
    })?;
    let Some(browser) = browser(&std::env::var_os("PATH").unwrap_or_default()) else {
        return Ok(format!("NOT DONE: there is none of {} on the PATH", BROWSERS.join(", ")));
    };
    let profile = std::env::temp_dir().join(format!("sprag-screenshot-{}", std::process::id()));
    fs::create_dir_all(&profile).with_context(|| format!("create {}", profile.display()))?;
    let pictures = SIZES.iter().map(|size| picture(&browser, &profile, &report, *size));
    let pictures = pictures.collect::<Result<Vec<String>>>();
    fs::remove_dir_all(&profile).with_context(|| format!("remove {}", profile.display()))?;
    Ok(format!("look at {}", pictures?.join(" and ")))
}

fn browser(path: &OsStr) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(path).collect();
    let named = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.chain([PathBuf::from(APPLICATION)]).find(|program| program.is_file())
}

fn picture(browser: &Path, profile: &Path, report: &Path, size: (u32, u32)) -> Result<String> {
    let mut name = report.with_extension("").into_os_string();
    name.push(format!("-{}.png", size.0));
    let picture = PathBuf::from(name);
    let mut command = Command::new(browser, profile).args(arguments(profile, report, &picture, size));
    command.env = std::env::vars_os().collect();
    let limits = Limits { wall: Some(LIMIT), ..Limits::default() };
    let output = process::capture(command, &limits, &Cancel::default())?;
    ensure!(output.success(), "{} {}\n{}", browser.display(), output.end, output.error_text());
    let bytes = fs::read(&picture).with_context(|| format!("read {}", picture.display()))?;
    let found = width(&bytes);
    ensure!(found == Some(size.0), "{} is {found:?} px wide, not {}", picture.display(), size.0);
    Ok(picture.display().to_string())
}

/// Without its own sandbox, which it refuses to make for root, and without anything that talks to the network.
fn arguments(profile: &Path, report: &Path, picture: &Path, (width, height): (u32, u32)) -> Vec<OsString> {
    let with = |name: &str, value: &Path| {
        let mut argument = OsString::from(name);
        argument.push(value);
        argument
    };
    let fixed = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--virtual-time-budget=5000",
    ];
    let mut arguments: Vec<OsString> = fixed.iter().map(Into::into).collect();
    arguments.push(format!("--window-size={width},{height}").into());
    arguments.push(with("--user-data-dir=", profile));
    arguments.push(with("--screenshot=", picture));
    arguments.push(with("file://", report));
    arguments
}

/// Width of a PNG: the first number of its first chunk.
fn width(png: &[u8]) -> Option<u32> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..12)?;
    let width = header.strip_prefix(b"IHDR")?;
    Some(u32::from_be_bytes(width.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_a_picture_is_read_from_its_header() {
        let png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x05\x00\x00\x00\x17\x70";
        assert_eq!(width(png), Some(1280));
        assert_eq!((width(&png[..18]), width(b"GIF89a"), width(b"")), (None, None, None));
    }

    #[test]
    fn the_browser_is_told_size_file_and_picture() {
        let arguments = arguments(Path::new("/p"), Path::new("/r.html"), Path::new("/r-400.png"), (400, 900));
        for expected in ["--window-size=400,900", "--user-data-dir=/p", "--screenshot=/r-400.png"] {
            assert!(arguments.iter().any(|argument| argument == expected), "{expected}: {arguments:?}");
        }
        assert_eq!(arguments.last().unwrap(), "file:///r.html");
    }

    #[test]
    fn without_a_browser_there_is_none() {
        assert_eq!(
            browser(OsStr::new("/nonexistent")).filter(|found| *found != Path::new(APPLICATION)),
            None
        );
    }
}
