//! Finds the names that a source uses, by tokens: whatever is written `a::b`, in uses, types, calls and
//! inside macros alike. Comments and texts are no names; what is compiled for unit tests only is left out.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree, token_stream::IntoIter};

/// A name as it is written: `crate::core::id::Epoch` is four words.
pub type Name = Vec<String>;

/// What one source says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Every name of two words or more.
    pub names: Vec<Name>,
    /// Modules that exist in unit tests only.
    pub test_modules: Vec<String>,
}

/// Reads a source.
pub fn said(text: &str) -> Said {
    let mut said = Said::default();
    said.stream(text.parse().unwrap());
    said
}

impl Said {
    fn stream(&mut self, tokens: TokenStream) {
        let mut rest = tokens.into_iter().peekable();
        while let Some(token) = rest.next() {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == '#' => self.attribute(&mut rest),
                TokenTree::Ident(word) => self.name(vec![word.to_string()], &mut rest),
                TokenTree::Group(group) => self.stream(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Behind a `#`: an attribute is read like all else, unless it says that the item is for tests.
    fn attribute(&mut self, rest: &mut Peekable<IntoIter>) {
        let Some(TokenTree::Group(group)) = rest.peek() else { return };
        let written: String = group.stream().to_string().split_whitespace().collect();
        if written != "cfg(test)" {
            return;
        }
        let mut words = Vec::new();
        for token in rest.by_ref() {
            match token {
                TokenTree::Ident(word) => words.push(word.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
                TokenTree::Punct(mark) if mark.as_char() == ';' => break,
                _ => {}
            }
        }
        if let [.., kind, module] = words.as_slice()
            && kind == "mod"
        {
            self.test_modules.push(module.clone());
        }
    }

    /// A name goes on as long as `::` and a word follow; braces hold several endings of it.
    fn name(&mut self, mut name: Name, rest: &mut Peekable<IntoIter>) {
        while colons(rest) {
            match rest.peek() {
                Some(TokenTree::Ident(word)) => {
                    name.push(word.to_string());
                    rest.next();
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let group = group.clone();
                    rest.next();
                    self.endings(&name, &group);
                    return;
                }
                _ => break,
            }
        }
        if name.len() > 1 {
            self.names.push(name);
        }
    }

    fn endings(&mut self, begun: &Name, group: &Group) {
        let mut rest = group.stream().into_iter().peekable();
        while let Some(token) = rest.next() {
            if let TokenTree::Ident(word) = token {
                let name = begun.iter().cloned().chain([word.to_string()]).collect();
                self.name(name, &mut rest);
            }
        }
    }
}

/// Takes `::` if it comes next.
fn colons(rest: &mut Peekable<IntoIter>) -> bool {
    let colon = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':');
    let mut ahead = rest.clone();
    let both = ahead.next().is_some_and(|token| {
        matches!(&token, TokenTree::Punct(mark) if mark.spacing() == proc_macro2::Spacing::Joint) && colon(&token)
    }) && ahead.next().is_some_and(|token| colon(&token));
    if both {
        *rest = ahead;
    }
    both
}

#[cfg(test)]
mod tests {
    use super::said;

    fn names(text: &str) -> Vec<String> {
        said(text).names.iter().map(|name| name.join("::")).collect()
    }

    #[test]
    fn uses_types_calls_and_macros_name() {
        let text = r#"
            use crate::{core::id::Epoch, k8s::{self, lease}};
            fn f(x: super::view::View<a::B>) -> Vec<u8> { g!("crate::text {}", c::D::e()); super::h() }
        "#;
        let wanted = [
            "crate::core::id::Epoch",
            "crate::k8s::self",
            "crate::k8s::lease",
            "super::view::View",
            "a::B",
            "c::D::e",
            "super::h",
        ];
        assert_eq!(names(text), wanted);
    }

    #[test]
    fn comments_and_texts_do_not() {
        assert_eq!(
            names("//! crate::a::b\n/* c::d */ const X: &str = \"e::f\"; /// g::h\nstruct Y(i, j);"),
            ["g::h"; 0]
        );
    }

    #[test]
    fn attributes_do_unless_the_item_is_for_tests() {
        let text = "#[derive(thiserror::Error)] struct A; #[cfg(test)] mod tests; #[cfg(test)] use a::b;
            #[cfg(test)] #[path = \"x.rs\"] mod other { use c::d; } #[cfg(unix)] use e::f;";
        assert_eq!(names(text), ["thiserror::Error", "e::f"]);
        assert_eq!(said(text).test_modules, ["tests"]);
    }
}
