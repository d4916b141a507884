//! An XML element with what is in it, names without their prefix. Small and plain: only one transaction at a time is
//! ever held so.

/// Attributes in order, names without their prefix.
pub(super) type Attributes = Vec<(Box<str>, Box<str>)>;

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: Box<str>,
    pub(super) attributes: Attributes,
    /// Its own text, trimmed.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| &*child.name == name)
    }

    /// Every child of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| &*child.name == name)
    }

    /// Text of the first child of a name; none if it is empty.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The first of several ways to name one thing.
    pub(super) fn text_of_any(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.text_of(name))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.as_ref())
    }

    /// Whether an attribute, or else a child of that name, says yes.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.said(name) == Some(true)
    }

    /// What an attribute or child of that name says: yes, no, or nothing.
    pub(super) fn said(&self, name: &str) -> Option<bool> {
        match self.attribute(name).or_else(|| self.text_of(name))?.trim() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Every element in it, itself included, with its path.
    pub(super) fn walk<'a>(&'a self, path: &str, visit: &mut impl FnMut(&str, &'a Element)) {
        let path = if path.is_empty() { self.name.to_string() } else { format!("{path}/{}", self.name) };
        visit(&path, self);
        for child in &self.children {
            child.walk(&path, visit);
        }
    }
}
