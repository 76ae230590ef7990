//! The right answers, by comparing every query with every product. The index has no part in it.

use std::{collections::HashMap, num::NonZero, ops::Range, thread};

use vitrine_core::{
    index::Target,
    keywords::{self, Keywords, rarity},
};

use crate::{
    ask::{Case, KEYWORD_SHARE, LIMIT, Question, Sides},
    shop::Shop,
};

/// The best products of a query in a case, best first, and how many pass its filter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) best: Vec<usize>,
    pub(crate) passed: usize,
}

/// Answers by query, then case.
pub(crate) type Truth = Vec<Vec<Answer>>;

/// Compares all with all, on all cores.
pub(crate) fn truth(shop: &Shop, cases: &[Case], questions: &[Question]) -> Truth {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = shop.products.div_ceil(cores);
    let wanted = &Wanted::new(shop, questions);
    let mut found = thread::scope(|scope| {
        let part = |core: usize| {
            let numbers = core * share..((core + 1) * share).min(shop.products);
            scope.spawn(move || scan(shop, cases, (questions, wanted), numbers))
        };
        let parts: Vec<_> = (0..cores).map(part).collect();
        parts.into_iter().map(|part| part.join().unwrap()).reduce(merge).unwrap_or_default()
    });
    let answer = |best: &mut Best| {
        best.hits.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        Answer { best: best.hits.iter().map(|(_, number)| *number).collect(), passed: best.passed }
    };
    found.iter_mut().map(|cases| cases.iter_mut().map(answer).collect()).collect()
}

/// The best so far.
#[derive(Debug, Clone)]
struct Best {
    hits: Vec<(f32, usize)>,
    /// What the next must score more than.
    least: f32,
    passed: usize,
}

impl Best {
    const NONE: Self = Self { hits: Vec::new(), least: f32::NEG_INFINITY, passed: 0 };

    fn add(&mut self, score: f32, number: usize) {
        if self.hits.len() < LIMIT {
            self.hits.push((score, number));
        } else if let Some(worst) = self.hits.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0)) {
            *worst = (score, number);
        }
        if self.hits.len() == LIMIT {
            self.least = self.hits.iter().map(|(score, _)| *score).fold(f32::INFINITY, f32::min);
        }
    }
}

/// The words of all queries.
#[derive(Debug)]
struct Wanted(HashMap<u32, Vec<(usize, f32)>>);

impl Wanted {
    fn new(shop: &Shop, questions: &[Question]) -> Self {
        let mut wanted: HashMap<u32, Vec<(usize, f32)>> = HashMap::new();
        for (nth, question) in questions.iter().enumerate() {
            for (word, weight) in question.keywords.iter() {
                wanted.entry(word).or_default().push((nth, weight));
            }
        }
        let mut having: HashMap<u32, usize> = wanted.keys().map(|word| (*word, 0)).collect();
        for number in 0..shop.products {
            for (word, _) in Keywords::of_product(&shop.described(number)).iter() {
                having.entry(word).and_modify(|count| *count += 1);
            }
        }
        for (word, queries) in &mut wanted {
            let rarity = rarity(shop.products, having[word]);
            for (_, weight) in queries {
                *weight *= rarity;
            }
        }
        Self(wanted)
    }

    /// What each query's keywords make of a product.
    fn similarities(&self, shop: &Shop, number: usize, similarities: &mut [f32]) {
        similarities.fill(0.0);
        for (word, kept) in Keywords::of_product(&shop.described(number)).iter() {
            for (nth, weight) in self.0.get(&word).into_iter().flatten() {
                similarities[*nth] += weight * kept;
            }
        }
        for score in similarities {
            *score = keywords::similarity(*score, shop.products);
        }
    }
}

fn scan(
    shop: &Shop,
    cases: &[Case],
    (questions, wanted): (&[Question], &Wanted),
    numbers: Range<usize>,
) -> Vec<Vec<Best>> {
    let mut by_keywords = vec![0.0; questions.len()];
    let mut best = vec![vec![Best::NONE; cases.len()]; questions.len()];
    for number in numbers {
        let facts = shop.facts(number);
        let (image, text) = (unit(shop.vector(number, Target::Image)), unit(shop.vector(number, Target::Text)));
        wanted.similarities(shop, number, &mut by_keywords);
        for ((question, by_keywords), best) in questions.iter().zip(&by_keywords).zip(&mut best) {
            let photo = dot(question.photo.values(), &image);
            let by_vectors = f32::midpoint(photo, dot(question.words.values(), &text));
            let in_words = (1.0 - KEYWORD_SHARE) * by_vectors + KEYWORD_SHARE * by_keywords;
            for ((case, test), best) in cases.iter().zip(&question.tests).zip(best) {
                if !test.passes(&facts) {
                    continue;
                }
                best.passed += 1;
                let score = if case.sides == Sides::Photo { photo } else { in_words };
                if score > best.least {
                    best.add(score, number);
                }
            }
        }
    }
    best
}

fn merge(mut ours: Vec<Vec<Best>>, theirs: Vec<Vec<Best>>) -> Vec<Vec<Best>> {
    for (ours, theirs) in ours.iter_mut().flatten().zip(theirs.into_iter().flatten()) {
        ours.passed += theirs.passed;
        for (score, number) in theirs.hits {
            if score > ours.least {
                ours.add(score, number);
            }
        }
    }
    ours
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = dot(&vector, &vector).sqrt();
    for value in &mut vector {
        *value /= length;
    }
    vector
}

/// Thirty-two sums side by side, which the compiler puts into vector registers.
fn dot(ours: &[f32], theirs: &[f32]) -> f32 {
    let (ours, _) = ours.as_chunks::<32>();
    let (theirs, _) = theirs.as_chunks::<32>();
    let mut sums = [0.0; 32];
    for (a, b) in ours.iter().zip(theirs) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{ask::questions, shop::Shape};

    #[test]
    fn what_is_found_is_what_sorting_all_that_pass_finds() {
        let shop = Shop::new(3000, 1, Shape::Categories);
        let cases = Case::all(&shop);
        let questions = questions(&shop, &cases, 2, &BTreeSet::new());
        let truth = truth(&shop, &cases, &questions);
        let kept: Vec<_> = (0..shop.products).map(|number| Keywords::of_product(&shop.described(number))).collect();
        let having = |word| kept.iter().filter(|keywords| keywords.weight(word).is_some()).count();
        for (question, answers) in questions.iter().zip(&truth) {
            for ((nth, case), answer) in cases.iter().enumerate().zip(answers) {
                let passing = (0..shop.products).filter(|number| question.tests[nth].passes(&shop.facts(*number)));
                let rarities: Vec<_> =
                    question.keywords.iter().map(|(word, _)| (word, rarity(shop.products, having(word)))).collect();
                let score = |number: usize| {
                    let photo = question.photo.cosine_to(&unit(shop.vector(number, Target::Image)));
                    let words = question.words.cosine_to(&unit(shop.vector(number, Target::Text)));
                    let keywords =
                        rarities.iter().map(|(word, rarity)| rarity * kept[number].weight(*word).unwrap_or(0.0));
                    let keywords = keywords::similarity(keywords.sum(), shop.products);
                    if case.sides == Sides::Photo { photo } else { 0.25 * (photo + words) + 0.5 * keywords }
                };
                let mut scored: Vec<_> = passing.map(|number| (score(number), number)).collect();
                assert_eq!(scored.len(), answer.passed, "{}", case.name());
                scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
                let best: Vec<_> = scored.into_iter().take(LIMIT).map(|(_, number)| number).collect();
                assert_eq!(best, answer.best, "{}", case.name());
            }
        }
    }
}
