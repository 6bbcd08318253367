//! All tokens as a tree of the characters of their texts, for who must ask every token the same
//! question: tokens that begin alike get the same answer up to there.

use super::{Token, Vocab};
use crate::util::utf8::{Partial, decode, is_continuation};

/// Longer tokens stay out of the tree, so that a text as long as a file makes no deep one.
const MAX_DEPTH: usize = 128;

/// A prefix of some tokens' texts.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The character that leads here.
    pub code_point: u32,
    /// Characters up to here; 0 for the root alone.
    pub depth: u32,
    /// The first node that is not below this one.
    pub end: u32,
    /// Ranks of the tokens that end here start at this one: first those that end with a whole
    /// character, …
    pub tokens: u32,
    /// … then, from this one on, those in which a character is left open.
    pub open_tokens: u32,
}

/// The tokens with text that does not end generation. Their rank is their place in the
/// order of the tree, so the tokens below a node are one range.
#[derive(Debug, Default)]
pub struct PieceTrie {
    /// In the order of a walk from the root; a last one, below nothing, ends the ranks.
    nodes: Vec<Node>,
    order: Vec<Token>,
    /// By token; `u32::MAX` for those without.
    ranks: Vec<u32>,
    /// By rank, ascending: what the text leaves open.
    open: Vec<(u32, Partial)>,
    long: Vec<Token>,
    continuing: Vec<Token>,
}

impl PieceTrie {
    /// The tokens of a vocabulary.
    pub(super) fn new(vocab: &Vocab) -> Self {
        // A model without texts names a number of tokens all the same.
        let n_tokens = vocab.attrs.len();
        let mut trie = Self { ranks: vec![u32::MAX; n_tokens], ..Self::default() };
        let mut entries = Vec::new();
        let mut text = Vec::new();
        for token in 0..n_tokens as Token {
            let piece = vocab.token_to_piece(token, 0, true).unwrap_or_default();
            let Some(&first) = piece.first().filter(|&&byte| byte != 0) else { continue };
            if vocab.is_eog(token) {
                continue;
            }
            if is_continuation(first) {
                trie.continuing.push(token);
                continue;
            }
            let start = text.len();
            let Some(open) = decode(piece, Partial::default(), &mut text) else { continue };
            if text.len() - start > MAX_DEPTH {
                text.truncate(start);
                trie.long.push(token);
                continue;
            }
            // A character 0 ends a text too.
            let end = text[start..].iter().position(|&c| c == 0).map_or(text.len(), |n| start + n);
            let char_at = |i: usize| text[start..end].get(i).map_or(0, |&c| u64::from(c));
            let key = char_at(0) << 32 | char_at(1);
            entries.push(Entry { key, range: (start, end), open, token });
        }
        entries.sort_unstable_by(|a, b| {
            let rest = |e: &Entry| (e.open.is_open(), e.token);
            let by_text = || text[a.range.0..a.range.1].cmp(&text[b.range.0..b.range.1]);
            a.key.cmp(&b.key).then_with(by_text).then_with(|| rest(a).cmp(&rest(b)))
        });
        trie.build(&entries, &text);
        trie
    }

    fn build(&mut self, entries: &[Entry], text: &[u32]) {
        let root = Node { code_point: 0, depth: 0, end: 0, tokens: 0, open_tokens: 0 };
        self.nodes.push(root);
        let mut path = vec![0usize];
        let mut before: &[u32] = &[];
        for (rank, entry) in (0u32..).zip(entries) {
            let chars = &text[entry.range.0..entry.range.1];
            let same = before.iter().zip(chars).take_while(|(a, b)| a == b).count();
            self.close(&mut path, same + 1);
            for &code_point in &chars[same..] {
                let depth = path.len() as u32;
                path.push(self.nodes.len());
                self.nodes.push(Node {
                    code_point,
                    depth,
                    end: 0,
                    tokens: rank,
                    open_tokens: rank,
                });
            }
            if entry.open.is_open() {
                self.open.push((rank, entry.open));
            } else {
                self.nodes[path[path.len() - 1]].open_tokens = rank + 1;
            }
            self.order.push(entry.token);
            self.ranks[entry.token as usize] = rank;
            before = chars;
        }
        self.close(&mut path, 0);
        let n = self.order.len() as u32;
        self.nodes.push(Node { tokens: n, open_tokens: n, ..root });
    }

    /// Ends the nodes of the path beyond the first `depth`.
    fn close(&mut self, path: &mut Vec<usize>, depth: usize) {
        let end = self.nodes.len() as u32;
        for node in path.drain(depth..) {
            self.nodes[node].end = end;
        }
    }

    /// The nodes, the root first and each before those below it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes[..self.nodes.len().saturating_sub(1)]
    }

    /// The tokens by rank.
    pub fn order(&self) -> &[Token] {
        &self.order
    }

    /// Number of tokens that have a text, be they in the tree or not.
    pub fn n_tokens(&self) -> usize {
        self.ranks.len()
    }

    /// The rank of a token that is in the tree.
    pub fn rank(&self, token: u32) -> Option<u32> {
        self.ranks.get(token as usize).copied().filter(|&rank| rank != u32::MAX)
    }

    /// Rank behind the last token that ends at the node, which is where those below it start.
    pub fn tokens_end(&self, node: usize) -> u32 {
        self.nodes[node + 1].tokens
    }

    /// Rank behind the last token at or below the node.
    pub fn subtree_end(&self, node: usize) -> u32 {
        self.nodes[self.nodes[node].end as usize].tokens
    }

    /// What the tokens with these ranks leave open, for those that do.
    pub fn open(&self, from: u32, end: u32) -> &[(u32, Partial)] {
        let at = |rank| self.open.partition_point(|(r, _)| *r < rank);
        &self.open[at(from)..at(end)]
    }

    /// Tokens too long for the tree.
    pub fn long(&self) -> &[Token] {
        &self.long
    }

    /// Tokens whose text begins within a character.
    pub fn continuing(&self) -> &[Token] {
        &self.continuing
    }
}

/// A token on its way into the tree.
struct Entry {
    /// The first two characters, so that most comparisons stay here.
    key: u64,
    range: (usize, usize),
    open: Partial,
    token: Token,
}
