//! "Did you mean": the known word nearest to a misspelt one.

/// The nearest of `known`, if it is near enough that a slip of the finger explains the difference.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    let allowed = match wrong.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .filter(|word| word.len().abs_diff(wrong.len()) <= 8)
        .map(|word| (distance(&wrong, &word.to_ascii_lowercase()), word))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// Edits between two words, where a dash for an underscore and a missing plural count little.
fn distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(&a.replace('-', "_"), &b.replace('-', "_"))
}

/// `did you mean `x`?`
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(|word| format!("did you mean `{word}`?"))
}

/// "`a`, `b` or `c`".
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::from("nothing"),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["paths", "methods", "strip_path", "key-auth"];
        assert_eq!(nearest("pathes", known), Some("paths"));
        assert_eq!(nearest("strip-path", known), Some("strip_path"));
        assert_eq!(nearest("keyauth", known), Some("key-auth"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest("", known), None);
    }
}
