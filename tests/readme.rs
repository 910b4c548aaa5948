//! The README shows a test of ten lines, without what stands around it. It is the doc-test of the
//! testkit's page, word for word, and that one runs.

#[test]
fn the_test_of_ten_lines_is_the_one_that_runs() {
    let readme = include_str!("../README.md");
    let section = readme.split("## Test your app").nth(1).expect("the section");
    let shown = block(section);
    assert!(shown.lines().count() > 10, "{shown}");

    let page: String = include_str!("../src/testkit/mod.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .filter(|line| !line.starts_with("# "))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(shown, block(&page));
}

/// What the first fence holds.
fn block(text: &str) -> &str {
    let (_, rest) = text.split_once("```").expect("a fence");
    let (_, rest) = rest.split_once('\n').expect("a line");
    rest.split_once("```").expect("its end").0
}
