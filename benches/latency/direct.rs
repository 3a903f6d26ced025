//! What the tool and the machine can do by themselves: the telephones' voices from socket to socket, with no server.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use ringdown::{phone, types::Rng};

use crate::{
    options::Options,
    phones::SetUps,
    report::{Limit, Step},
    voices::{STRAGGLERS, Voices},
};

const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(3);
/// The last step is so many times the load that is wanted.
const BEYOND: usize = 8;
/// Far from those of the telephones, which have the same voices later.
const FIRST_WINDOW: u64 = 1 << 20;

/// At the load that is wanted, and then at twice as much as before until it is not clean any more.
pub(crate) fn limit(options: &Options, voices: &Voices) -> Result<Limit, String> {
    let (mut steps, mut rng) = (Vec::new(), Rng::from_small_seed(2));
    let mut sockets = Vec::new();
    let mut calls = options.calls;
    while calls <= BEYOND * options.calls || options.ramp {
        while sockets.len() < 2 * calls {
            match socket() {
                Ok(socket) => sockets.push(Arc::new(socket)),
                // The descriptors are used up; as many are needed for the telephones.
                Err(error) if steps.is_empty() => return Err(format!("{calls} calls: {error}")),
                Err(_) => return Ok(Limit { steps }),
            }
        }
        steps.push(step(voices, &sockets, options, FIRST_WINDOW + steps.len() as u64, &mut rng));
        if steps.last().is_some_and(|step| !step.is_clean()) {
            break;
        }
        calls *= 2;
    }
    Ok(Limit { steps })
}

fn step(voices: &Voices, sockets: &[Arc<UdpSocket>], options: &Options, window: u64, rng: &mut Rng) -> Step {
    for (own, socket) in (0..).zip(sockets) {
        let (partner, (speaker, listener)) = (own ^ 1, phone::direct(options.suite, rng));
        let remote = sockets[partner as usize].local_addr().unwrap();
        // Whoever listens to this speaker is the partner.
        voices.begin_mouth(own, Arc::clone(socket), remote, speaker);
        voices.begin_ear(partner, Arc::clone(&sockets[partner as usize]), listener, own);
    }
    std::thread::sleep(WARM_UP);
    let opened = voices.open(window);
    std::thread::sleep(TIME);
    let time = voices.close(opened);
    std::thread::sleep(STRAGGLERS);
    let heard = voices.heard(time);
    (0..).zip(sockets).for_each(|(own, _)| voices.end(own));
    let calls = sockets.len() / 2;
    Step { wanted: calls, calls, set_ups: SetUps::default(), heard, cpu: None, bytes_per_call: None }
}

fn socket() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
