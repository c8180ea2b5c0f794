//! A list of strings in one allocation, for vocabularies with hundreds of thousands of them.

/// Strings, stored end to end in one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StringList {
    text: String,
    /// The end of each string in `text`, in bytes.
    ends: Vec<usize>,
}

impl StringList {
    /// Adds a string.
    pub fn push(&mut self, string: &str) {
        self.append(string);
        self.close();
    }

    /// Appends to the string that [`StringList::close`] will end.
    pub(crate) fn append(&mut self, part: &str) {
        self.text.push_str(part);
    }

    /// Ends the string that [`StringList::append`] has built.
    pub(crate) fn close(&mut self) {
        self.ends.push(self.text.len());
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all strings together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringList {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> StringList {
        let mut list = StringList::default();
        for string in strings {
            list.push(string.as_ref());
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_order() {
        let list: StringList = ["", "é", "", "ab"].into_iter().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["", "é", "", "ab"]);
        assert_eq!((list.len(), list.text_bytes()), (4, 4));
        assert_eq!((list.get(1), list.get(4)), (Some("é"), None));
        assert!(StringList::default().is_empty());
    }
}
