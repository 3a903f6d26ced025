//! The order of SRV records (RFC 2782).

use super::Server;
use crate::types::Rng;

/// By rank; within a rank each record comes next with a probability in proportion to its weight.
pub(super) fn by_weight<'a>(servers: &'a [Server], rng: &mut Rng) -> impl Iterator<Item = &'a Server> + use<'a> {
    let mut left: Vec<_> = servers.iter().collect();
    // Those of weight 0 first within their rank: they are drawn only when the number drawn is 0.
    left.sort_by_key(|server| (server.rank, server.weight != 0));
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let same_rank = left.iter().take_while(|server| server.rank == first.rank).count();
        let drawn = if same_rank == 1 { 0 } else { draw(&left[..same_rank], rng) };
        ordered.push(left.remove(drawn));
    }
    ordered.into_iter()
}

/// The first whose running sum of weights reaches a number between 0 and the sum of all.
fn draw(servers: &[&Server], rng: &mut Rng) -> usize {
    let sum: u32 = servers.iter().map(|server| u32::from(server.weight)).sum();
    let number = rng.below(sum + 1);
    let mut running = 0;
    servers
        .iter()
        .position(|server| {
            running += u32::from(server.weight);
            running >= number
        })
        .expect("the running sum ends at the sum of all")
}
