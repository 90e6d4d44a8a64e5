//! The documentation: each crate has its own page, links lead somewhere, and lines keep their width.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::run::{output, root};

/// A line of prose is at most so long; tables, code and addresses are as long as they are.
const MAX_WIDTH: usize = 128;
/// How a crate's root begins: its page is its documentation.
const INCLUDES: &str = "#![doc = include_str!(\"../README.md\")]";

pub(crate) fn run() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for name in fs::read_dir(root().join("crates"))? {
        check_crate(&name?.path(), &mut wrong)?;
    }
    for path in pages()? {
        check_page(&path, &mut wrong)?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("the documentation does not hold:\n  {}", wrong.join("\n  "))
    }
}

fn check_crate(directory: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let readme = fs::read_to_string(directory.join("README.md")).unwrap_or_default();
    if !readme.starts_with(&format!("# gramme-{name}\n")) || !readme.contains("\n## Use it\n") {
        wrong.push(format!("crates/{name}/README.md does not say what it is, and when to use it"));
    }
    if !fs::read_to_string(directory.join("src/lib.rs"))?.starts_with(INCLUDES) {
        wrong.push(format!("crates/{name}/src/lib.rs does not begin with {INCLUDES}"));
    }
    Ok(())
}

fn pages() -> anyhow::Result<Vec<PathBuf>> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])?;
    Ok(listed.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}

fn check_page(path: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(root().join(path))?;
    for (number, line) in prose(&text) {
        if line.chars().count() > MAX_WIDTH && !line.starts_with('|') && !line.contains("](") {
            wrong.push(format!("{}:{number}: longer than {MAX_WIDTH}", path.display()));
        }
        for link in links(line).filter(|link| !link.contains("://")) {
            if let Err(error) = follow(path, &text, link) {
                wrong.push(format!("{}:{number}: {link}: {error}", path.display()));
            }
        }
    }
    Ok(())
}

/// Lines that are not code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where the links of a line lead.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
}

/// Checks that a relative link leads to a file, and to a heading in it.
fn follow(from: &Path, text: &str, link: &str) -> anyhow::Result<()> {
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
    let target = root().join(from).parent().unwrap_or(Path::new("")).join(file);
    ensure!(file.is_empty() || target.exists(), "there is no such file");
    if let Some(heading) = heading {
        let other = if file.is_empty() { text.to_owned() } else { fs::read_to_string(target)? };
        ensure!(anchors(&other).contains(heading), "there is no such heading");
    }
    Ok(())
}

/// What headings are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).map(|(_, line)| line).filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: char| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => Some(letter),
        _ => None,
    };
    headings.map(|heading| heading.to_lowercase().chars().filter_map(kept).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_their_headings() {
        let text = "# A page\n\n## `gramme node --config FILE`\n\n```\n# no heading\n```\n";
        let anchors = anchors(text);
        assert!(anchors.contains("a-page") && anchors.contains("gramme-node---config-file"), "{anchors:?}");
        assert_eq!(anchors.len(), 2);
        let found: Vec<_> = links("see [this](a.md#b) and [that](#c), or [x](https://x)").collect();
        assert_eq!(found, ["a.md#b", "#c", "https://x"]);
        let page = Path::new("docs/http.md");
        assert!(follow(page, text, "testing.md").is_ok() && follow(page, text, "#a-page").is_ok());
        assert!(follow(page, text, "nowhere.md").is_err() && follow(page, text, "#b-page").is_err());
    }
}
