//! YAML to flat `a.b.c` keys. Scalars keep the text that was written: a password `0123` is not the number 123.

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};
use zeroize::Zeroizing;

/// One leaf of the document.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The dotted path to it.
    pub(crate) key: String,
    /// Its text, items of a list joined by commas; `None` if it is empty.
    pub(crate) value: Option<Zeroizing<String>>,
    /// Where its key is, from 1.
    pub(crate) line: usize,
}

/// Text that is not the YAML we take: mappings, nested or with dotted keys, of scalars and lists of scalars.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("line {}: {}", .0.marker().line(), .0.info())]
    Scan(#[from] ScanError),
    #[error("line {line}: {reason}")]
    Shape { line: usize, reason: &'static str },
}

/// The leaves of `text` in the order in which they are written. A key may occur more than once.
pub(crate) fn flatten(text: &str) -> Result<Vec<Entry>, YamlError> {
    let mut flattener = Flattener::default();
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, mark) = parser.next_token()?;
        if event == Event::StreamEnd {
            return Ok(flattener.entries);
        }
        flattener.take(event, mark)?;
    }
}

#[derive(Default)]
struct Flattener {
    entries: Vec<Entry>,
    open: Vec<Open>,
    documents: usize,
}

/// A mapping or list whose end has not been seen.
enum Open {
    Mapping { prefix: String, key: Option<Key> },
    List { key: Key, items: Vec<Zeroizing<String>> },
}

/// A full dotted key and its line.
#[derive(Clone)]
struct Key {
    name: String,
    line: usize,
}

impl Flattener {
    fn take(&mut self, event: Event, mark: Marker) -> Result<(), YamlError> {
        let line = mark.line();
        let refuse = |reason| Err(YamlError::Shape { line, reason });
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    return refuse("a second YAML document (`---`); everything goes into one");
                }
            }
            Event::Alias(_) => return refuse("YAML aliases (`*name`) are not supported; write the value out"),
            Event::Scalar(text, style, ..) => self.scalar(Zeroizing::new(text), style == TScalarStyle::Plain, line)?,
            Event::MappingStart(..) => match self.open.last_mut() {
                None => self.open.push(Open::Mapping { prefix: String::new(), key: None }),
                Some(Open::Mapping { key, .. }) => match key.take() {
                    Some(Key { name, .. }) => self.open.push(Open::Mapping { prefix: name + ".", key: None }),
                    None => return refuse("a key must be plain text"),
                },
                Some(Open::List { .. }) => return refuse("lists can only hold plain values"),
            },
            Event::SequenceStart(..) => match self.open.last_mut() {
                Some(Open::Mapping { key, .. }) => match key.take() {
                    Some(key) => self.open.push(Open::List { key, items: Vec::new() }),
                    None => return refuse("a key must be plain text"),
                },
                Some(Open::List { .. }) => return refuse("lists can only hold plain values"),
                None => return refuse("expected `key: value`, not a list"),
            },
            Event::MappingEnd => drop(self.open.pop()),
            Event::SequenceEnd => {
                if let Some(Open::List { key: Key { name, line }, items }) = self.open.pop() {
                    let items: Vec<&str> = items.iter().map(|item| item.as_str()).collect();
                    self.entries.push(Entry { key: name, value: Some(Zeroizing::new(items.join(","))), line });
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: Zeroizing<String>, plain: bool, line: usize) -> Result<(), YamlError> {
        let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let refuse = |reason| Err(YamlError::Shape { line, reason });
        match self.open.last_mut() {
            None if null => {} // nothing but comments
            None => return refuse("expected `key: value`"),
            Some(Open::Mapping { prefix, key: key @ None }) => {
                if text.trim().is_empty() {
                    return refuse("a key must not be empty");
                }
                *key = Some(Key { name: format!("{prefix}{}", text.trim()), line });
            }
            Some(Open::Mapping { key, .. }) => {
                if let Some(Key { name, line }) = key.take() {
                    self.entries.push(Entry { key: name, value: (!null).then_some(text), line });
                }
            }
            Some(Open::List { .. }) if null => return refuse("an empty item in a list"),
            Some(Open::List { items, .. }) => items.push(text),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        let pair = |entry: Entry| (entry.key, entry.value.map(|value| value.to_string()));
        flatten(text).unwrap().into_iter().map(pair).collect()
    }

    fn refusal(text: &str) -> String {
        flatten(text).unwrap_err().to_string()
    }

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let nested = "security:\n  ssl:\n    internal.enabled: true\n    reload: false\nrest.port: 8081\n";
        let dotted = "security.ssl.internal.enabled: true\nsecurity.ssl.reload: false\nrest: {port: 8081}\n";
        assert_eq!(pairs(nested), pairs(dotted));
        assert_eq!(pairs(nested)[2], ("rest.port".into(), Some("8081".into())));
    }

    #[test]
    fn values_keep_their_spelling() {
        for text in ["0123", "1e5", "0x1F", "yes", "1_000", "+1"] {
            assert_eq!(pairs(&format!("k: {text}")), [("k".into(), Some(text.to_owned()))]);
        }
        assert_eq!(pairs("k: 'a: b # c'"), [("k".into(), Some("a: b # c".into()))]);
        assert_eq!(pairs("k: ''"), [("k".into(), Some(String::new()))]);
        assert_eq!(
            pairs("k: [a, 'b']\nl:\n  - c\n"),
            [("k".into(), Some("a,b".into())), ("l".into(), Some("c".into()))]
        );
    }

    #[test]
    fn empty_values_and_documents() {
        assert_eq!(pairs("a:\n#  b: 1\nc: ~\n"), [("a".into(), None), ("c".into(), None)]);
        assert_eq!(pairs("# nothing\n"), []);
        assert_eq!(pairs(""), []);
    }

    #[test]
    fn other_documents_are_refused_with_their_line() {
        for (text, line) in [
            ("just text", 1),
            ("- a\n- b\n", 1),
            ("a: 1\nb: *x\n", 2),
            ("a:\n  - {b: 1}\n", 2),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\n  b: 2\n", 2),
            ("? [a]\n: b\n", 1),
        ] {
            let refusal = refusal(text);
            assert!(refusal.starts_with(&format!("line {line}: ")), "{text:?}: {refusal}");
        }
    }

    #[derive(Debug, Clone)]
    enum Tree {
        Leaf(String),
        Branch(BTreeMap<String, Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = "[ -~]{0,8}".prop_map(Tree::Leaf);
        let inner = leaf.prop_recursive(4, 24, 4, |inner| {
            btree_map("[a-z]{1,3}(-[a-z]{1,2})?", inner, 1..4).prop_map(Tree::Branch)
        });
        btree_map("[a-z]{1,3}", inner, 1..4).prop_map(Tree::Branch)
    }

    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }

    fn write_nested(tree: &Tree, indent: usize, out: &mut String) {
        match tree {
            Tree::Leaf(text) => writeln!(out, " {}", quoted(text)).unwrap(),
            Tree::Branch(children) => {
                out.push('\n');
                for (key, child) in children {
                    write!(out, "{:indent$}{key}:", "").unwrap();
                    write_nested(child, indent + 2, out);
                }
            }
        }
    }

    fn leaves(tree: &Tree, prefix: &str, out: &mut Vec<(String, Option<String>)>) {
        match tree {
            Tree::Leaf(text) => out.push((prefix.trim_end_matches('.').to_owned(), Some(text.clone()))),
            Tree::Branch(children) => {
                children.iter().for_each(|(key, child)| leaves(child, &format!("{prefix}{key}."), out))
            }
        }
    }

    proptest! {
        #[test]
        fn flattening_gives_every_leaf_under_its_path(tree in tree()) {
            let mut expected = Vec::new();
            leaves(&tree, "", &mut expected);
            let mut nested = String::new();
            write_nested(&tree, 0, &mut nested);
            prop_assert_eq!(pairs(&nested), expected.clone());
            let mut dotted = String::new();
            for (key, value) in &expected {
                writeln!(dotted, "{key}: {}", quoted(value.as_deref().unwrap())).unwrap();
            }
            prop_assert_eq!(pairs(&dotted), expected);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[a-c:\\[\\]{}&*!|>'\"%@#?~, .\n\t-]{0,40}") {
            let _ = flatten(&text);
        }

        #[test]
        fn arbitrary_text_does_not_either(text in "\\PC{0,60}") {
            let _ = flatten(&text);
        }
    }
}
