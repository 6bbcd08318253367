//! A set of byte strings walked byte by byte, for models that look for the longest or for all
//! tokens at a place of the text.

/// No value, no node.
const NONE: u32 = u32::MAX;

/// A trie in breadth-first order: the children of a node lie side by side, and after those of the
/// node before it. 9 bytes a node.
pub(super) struct Trie {
    /// First child of each node, and one more for the end of the last.
    first_child: Vec<u32>,
    /// The byte that leads to each node.
    label: Vec<u8>,
    value: Vec<u32>,
}

/// A node of a [`Trie`]: a prefix of some of its strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(u32);

impl Trie {
    /// The empty prefix.
    pub(super) const ROOT: Node = Node(0);

    /// Over strings with values (below `u32::MAX`). Of equal strings the last one's value counts;
    /// empty ones are left out.
    pub(super) fn new<'a>(entries: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut entries: Vec<Entry<'a>> =
            entries.filter(|(text, _)| !text.is_empty()).map(Entry::new).collect();
        entries.sort(); // stable: equal strings stay in their order
        let mut trie = Self { first_child: Vec::new(), label: vec![0], value: vec![NONE] };
        // The strings below each node of a level, as ranges of the sorted list.
        let mut level = vec![(0, entries.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next_level = Vec::with_capacity(level.len());
            for (mut from, end) in level {
                trie.first_child.push(trie.label.len() as u32);
                while from < end {
                    let byte = entries[from].text[depth];
                    let same = entries[from..end].iter().take_while(|e| e.text[depth] == byte);
                    let upto = from + same.count();
                    let finished = entries[from..upto].iter();
                    let finished = finished.take_while(|e| e.text.len() == depth + 1);
                    let value = finished.clone().last().map_or(NONE, |e| e.value);
                    trie.label.push(byte);
                    trie.value.push(value);
                    next_level.push((from + finished.count(), upto));
                    from = upto;
                }
            }
            level = next_level;
            depth += 1;
        }
        trie.first_child.push(trie.label.len() as u32);
        trie
    }

    /// The node one byte further.
    #[inline]
    pub(super) fn step(&self, Node(node): Node, byte: u8) -> Option<Node> {
        let from = self.first_child[node as usize] as usize;
        let end = self.first_child[node as usize + 1] as usize;
        let labels = &self.label[from..end];
        // Most nodes have one child, and a few have very many.
        let at = if labels.len() < 16 {
            labels.iter().position(|&label| label == byte)?
        } else {
            labels.binary_search(&byte).ok()?
        };
        Some(Node((from + at) as u32))
    }

    /// The value of the string that ends at a node.
    #[inline]
    pub(super) fn value(&self, Node(node): Node) -> Option<u32> {
        Some(self.value[node as usize]).filter(|&value| value != NONE)
    }

    /// All strings at the beginning of `text`, shortest first: their lengths and values.
    #[inline]
    pub(super) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut node = Some(Self::ROOT);
        let nodes = text.iter().map_while(move |&byte| {
            node = self.step(node?, byte);
            node
        });
        nodes.enumerate().filter_map(|(i, node)| Some((i + 1, self.value(node)?)))
    }

    /// How many bytes of `text` are a prefix of a string.
    pub(super) fn matching(&self, text: &[u8]) -> usize {
        let mut node = Self::ROOT;
        let steps = text.iter().map_while(|&byte| {
            node = self.step(node, byte)?;
            Some(())
        });
        steps.count()
    }
}

/// A string with its first bytes as a number, which decides most comparisons without a look at
/// the string.
struct Entry<'a> {
    head: u64,
    text: &'a [u8],
    value: u32,
}

impl<'a> Entry<'a> {
    fn new((text, value): (&'a [u8], u32)) -> Self {
        let mut head = [0; 8];
        let n = text.len().min(8);
        head[..n].copy_from_slice(&text[..n]);
        Self { head: u64::from_be_bytes(head), text, value }
    }
}

impl Ord for Entry<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.head.cmp(&other.head).then_with(|| self.text.cmp(other.text))
    }
}

impl PartialOrd for Entry<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(texts: &[&str]) -> Trie {
        Trie::new(texts.iter().map(|t| t.as_bytes()).zip(0..))
    }

    #[test]
    fn all_prefixes_are_found_shortest_first() {
        let texts = ["abcdefghij", "ab", "b", "abcdefghik", "a", "ab", "", "\0", "abcdefgh\0"];
        let trie = trie(&texts);
        let found = |text: &str| trie.prefixes(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(found("abcdefghik!"), [(1, 4), (2, 5), (10, 3)]);
        assert_eq!(found("abcdefghij"), [(1, 4), (2, 5), (10, 0)]);
        assert_eq!(found("abcdefgh\0"), [(1, 4), (2, 5), (9, 8)]);
        assert_eq!(found("\0a"), [(1, 7)]);
        assert_eq!(found("cab"), []);
        assert_eq!(found(""), []);
        assert_eq!(trie.matching(b"abcdexyz"), 5);
        assert_eq!(trie.matching(b"x"), 0);
    }

    #[test]
    fn nodes_with_many_children() {
        let texts: Vec<String> = ('\u{80}'..'\u{7ff}').map(|c| format!("x{c}")).collect();
        let trie = Trie::new(texts.iter().map(|t| t.as_bytes()).zip(0..));
        for (text, i) in texts.iter().zip(0..) {
            assert_eq!(trie.prefixes(text.as_bytes()).collect::<Vec<_>>(), [(3, i)]);
        }
        assert_eq!(trie.prefixes("xa".as_bytes()).count(), 0);
    }

    #[test]
    fn an_empty_set_has_nothing() {
        let trie = trie(&[]);
        assert_eq!(trie.prefixes(b"a").count(), 0);
        assert_eq!(trie.matching(b"a"), 0);
    }
}
