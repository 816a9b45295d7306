//! What is a legal path, and what are its parts?

/// Whether the service itself has the node: it can't be deleted.
pub fn is_reserved(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

/// Whether it is below the node that quotas are kept in.
pub fn is_under_quota(path: &str) -> bool {
    path.starts_with("/zookeeper/quota/")
}

/// Whether a path may name a node: absolute, without empty, `.` or `..` components, without a slash at the
/// end, without characters that ZooKeeper refuses.
pub fn is_valid(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let (bytes, mut start, mut ascii) = (rest.as_bytes(), 0, true);
    // One look at each byte: every write comes through here.
    for (at, &b) in bytes.iter().enumerate() {
        match b {
            b'/' if is_no_name(&bytes[start..at]) => return false,
            b'/' => start = at + 1,
            0..=0x1f | 0x7f => return false,
            _ => ascii &= b.is_ascii(),
        }
    }
    rest.is_empty() || (!is_no_name(&bytes[start..]) && (ascii || !rest.contains(is_refused)))
}

const fn is_no_name(name: &[u8]) -> bool {
    matches!(name, b"" | b"." | b"..")
}

/// Characters that no path may have: controls, private use and specials, and whatever Java needs surrogates
/// for. (A surrogate itself, U+D800 to U+DFFF, is no `char`.)
fn is_refused(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Parent and name. The parent of `/a` is the empty path, which names the root as `/` does; `None` if there
/// is no slash or there is a NUL, which is refused before anything else is looked at.
pub fn split(path: &str) -> Option<(&str, &str)> {
    if path.contains('\0') { None } else { path.rsplit_once('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_paths() {
        let long = format!("/{}", "x".repeat(100_000));
        for path in [
            "/",
            "/a",
            "/a/b",
            "/...",
            "/.a",
            "/a..",
            "/with space/%41",
            "/ä/日本",
            "/\u{a0}",
            "/\u{f900}",
            &long,
        ] {
            assert!(is_valid(path), "{path:?}");
        }
    }

    #[test]
    fn illegal_paths() {
        for path in
            ["", "a", "a/b", "//", "/a/", "/a//b", "//a", "/.", "/..", "/a/./b", "/a/..", "./a", " /a"]
        {
            assert!(!is_valid(path), "{path:?}");
        }
        let refused = [
            '\0', '\u{1}', '\n', '\u{1f}', '\u{7f}', '\u{9f}', '\u{e000}', '\u{f8ff}', '\u{fff0}', '\u{fffd}',
        ];
        for c in refused.into_iter().chain(['\u{ffff}', '\u{10000}', '😀']) {
            assert!(!is_valid(&format!("/a{c}b")), "{c:?}");
        }
    }

    #[test]
    fn parents_are_what_is_before_the_last_slash() {
        assert_eq!(split("/a"), Some(("", "a")));
        assert_eq!(split("/"), Some(("", "")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a/"), Some(("/a", "")));
        assert_eq!(split("//"), Some(("/", "")));
        assert_eq!(split("a/b"), Some(("a", "b")));
        assert_eq!(split(""), None);
        assert_eq!(split("a"), None);
        assert_eq!(split("/a\0/b"), None);
    }
}
