//! Names of split files: `PREFIX-00001-of-00003.gguf`. Numbers count from 0 in the code and from
//! 1 in the names, as in `llama_split_path`.

/// The name of split `no` of `count`.
pub fn split_path(prefix: &str, no: u32, count: u32) -> String {
    format!("{prefix}-{:05}-of-{count:05}.gguf", u64::from(no) + 1)
}

/// The prefix of `path`, where it is the name of split `no` of `count`.
pub fn split_prefix(path: &str, no: u32, count: u32) -> Option<&str> {
    path.strip_suffix(&split_path("", no, count)).filter(|prefix| !prefix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_splits_count_from_one() {
        assert_eq!(split_path("/m/big", 1, 4), "/m/big-00002-of-00004.gguf");
        assert_eq!(split_prefix("/m/big-00002-of-00004.gguf", 1, 4), Some("/m/big"));
        assert_eq!(split_prefix("/m/big-00002-of-00004.gguf", 2, 4), None);
        assert_eq!(split_prefix("/m/big-00002-of-00004.gguf", 1, 5), None);
        assert_eq!(split_prefix("-00002-of-00004.gguf", 1, 4), None);
        assert_eq!(split_path("x", u32::MAX, 1), "x-4294967296-of-00001.gguf");
    }
}
