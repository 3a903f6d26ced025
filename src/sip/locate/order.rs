//! The order of SRV records, and of what the operator lists in their place (RFC 2782).

use crate::types::Rng;

/// By rank; within a rank each comes next with a probability in proportion to its weight. `key`: rank and weight.
pub(super) fn by_weight<'a, T, R: Ord>(items: &'a [T], key: impl Fn(&T) -> (R, u16), rng: &mut Rng) -> Vec<&'a T> {
    let mut left: Vec<_> = items.iter().collect();
    // Those of weight 0 first within their rank: they are drawn only when the number drawn is 0.
    left.sort_by_key(|item| {
        let (rank, weight) = key(item);
        (rank, weight != 0)
    });
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let rank = key(first).0;
        let weights: Vec<u16> = left.iter().map(|item| key(item)).take_while(|k| k.0 == rank).map(|k| k.1).collect();
        let drawn = if weights.len() == 1 { 0 } else { draw(&weights, rng) };
        ordered.push(left.remove(drawn));
    }
    ordered
}

/// The first whose running sum of weights reaches a number between 0 and the sum of all.
fn draw(weights: &[u16], rng: &mut Rng) -> usize {
    let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
    let number = rng.below(sum + 1);
    let mut running = 0;
    weights
        .iter()
        .position(|weight| {
            running += u32::from(*weight);
            running >= number
        })
        .expect("the running sum ends at the sum of all")
}
