//! What is printed.

use std::fmt::Write;
use std::time::Duration;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    /// Nothing could be judged; the note says why.
    Open,
}

impl Verdict {
    pub fn of(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Fail }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Open => "not judged",
        }
    }
}

/// The report so far.
pub struct Report {
    facts: Vec<(String, String)>,
    checks: Vec<(String, Verdict, String)>,
    sections: String,
    times: Vec<(String, Duration)>,
}

impl Report {
    pub fn new(facts: Vec<(String, String)>) -> Self {
        Self { facts, checks: Vec::new(), sections: String::new(), times: Vec::new() }
    }

    pub fn check(&mut self, name: &str, verdict: Verdict, note: impl Into<String>) {
        self.checks.push((name.into(), verdict, note.into()));
    }

    pub fn section(&mut self, title: &str, text: &str) {
        let _ = write!(self.sections, "\n## {title}\n\n{}\n", text.trim_end());
    }

    pub fn took(&mut self, part: &str, time: Duration) {
        self.times.push((part.into(), time));
    }

    pub fn failed(&self) -> bool {
        self.checks.iter().any(|(_, verdict, _)| *verdict == Verdict::Fail)
    }

    pub fn text(&self) -> String {
        let rows = self.facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
        let facts = table(&["machine", ""], rows);
        let checks = self.checks.iter().map(|(name, verdict, note)| {
            vec![name.clone(), verdict.word().to_owned(), note.clone()]
        });
        let checks = table(&["check", "result", "note"], checks);
        let times = self
            .times
            .iter()
            .map(|(part, time)| vec![part.clone(), format!("{:.1}", time.as_secs_f64())]);
        let times = table(&["part", "seconds"], times);
        format!(
            "# GPU check\n\n{facts}\n## Checks\n\n{checks}{}\n## Time\n\n{times}",
            self.sections
        )
    }
}

/// A table; bars in cells would end them.
pub fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        let cells = cells.iter().map(|cell| cell.replace('|', "/").replace('\n', " "));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let mut text = line(&titles);
    text += &line(&vec!["---".to_owned(); titles.len()]);
    text.extend(rows.into_iter().map(|row| line(&row)));
    text
}
