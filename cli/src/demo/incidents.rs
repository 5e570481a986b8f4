//! What went wrong on the way, in words.

/// A list that stays readable when everything goes wrong.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    told: Vec<String>,
    untold: usize,
}

impl Incidents {
    pub(super) fn note(&mut self, incident: impl Into<String>) {
        if self.told.len() < MAX_TOLD {
            self.told.push(incident.into());
        } else {
            self.untold += 1;
        }
    }

    pub(super) fn into_words(mut self) -> Vec<String> {
        if self.untold > 0 {
            self.told.push(format!("and {} incidents more", self.untold));
        }
        self.told
    }
}

/// Incidents that are told in words; the others are counted.
const MAX_TOLD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_and_the_others_counted() {
        let mut incidents = Incidents::default();
        (0..25).for_each(|number| incidents.note(number.to_string()));
        let words = incidents.into_words();
        assert_eq!((words.len(), words.last().map(String::as_str)), (21, Some("and 5 incidents more")));
    }
}
