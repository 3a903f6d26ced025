//! What a person or a device does besides calling, answering and hanging up.

use super::*;

const BOOT: Duration = Duration::from_secs(3);

impl Phone {
    /// Turns an incoming call away.
    pub(crate) fn refuse(&mut self, now: Instant, index: usize, status: u16) {
        self.finish_invite(now, index, status, None);
        self.end(index, status, false);
    }

    /// Sends an incoming call to a user part of the server's domain (RFC 3261 section 8.1.3.4).
    pub(crate) fn redirect(&mut self, now: Instant, index: usize, whom: &str) {
        let of_call = |s: &Service| s.call == Some(index) && s.request.to_tag().is_none() && s.status < 200;
        let Some(at) = self.services.iter().position(of_call) else { return };
        let tag = &self.calls[index].local_tag;
        let request = &self.services[at].request;
        let bytes = ResponseBuilder::to(request, 302, "Moved Temporarily", tag, self.profile.server)
            .header("Contact", format!("<sip:{whom}@{}>", self.profile.domain))
            .finish();
        self.outbox.push(bytes.clone());
        let service = &mut self.services[at];
        service.response = Some(bytes);
        service.status = 302;
        service.resend_at = (!self.profile.transport.is_reliable()).then(|| now + T1);
        service.give_up_at = Some(now + GIVE_UP);
        service.forget_at = now + LINGER;
        self.end(index, 302, false);
    }

    /// Speaks before it answers; only what a reliable response has settled can be heard.
    pub(crate) fn play_early(&mut self, now: Instant, index: usize) {
        self.calls[index].early.speaks = true;
        self.start_voice(now, index);
    }

    /// Asks for a fax in the place of the voice, or for the voice again.
    pub(crate) fn fax(&mut self, now: Instant, index: usize, is_fax: bool) {
        self.calls[index].voice.fax.is_wanted = is_fax;
        self.reinvite(now, index);
    }

    /// A re-INVITE that changes nothing (RFC 4028 section 7.1).
    pub(crate) fn refresh(&mut self, now: Instant, index: usize) {
        self.hold(now, index, self.calls[index].is_held_by_us);
    }

    pub(crate) fn press(&mut self, index: usize, key: char) {
        let packets = self.calls[index].voice.press(key);
        self.packets.extend(packets);
    }

    /// A request without a body outside calls.
    pub(crate) fn ask(&mut self, now: Instant, method: &'static str, whom: &str) {
        let draft = self.draft(method, whom);
        self.send(now, draft, Purpose::Other, 0);
    }

    /// What the old connection may have swallowed.
    pub(super) fn repeat_farewells(&mut self) {
        let is_unanswered = |c: &&Client| matches!(c.purpose, Purpose::Bye(_)) && c.final_status.is_none();
        self.outbox.extend(self.clients.iter().filter(is_unanswered).map(|c| c.bytes.clone()));
    }

    /// Loses power: nobody is told. It starts again with an empty memory and registers.
    pub(crate) fn restart(&mut self, now: Instant) {
        for index in 0..self.calls.len() {
            self.end(index, 0, false);
            // Nothing that still comes for it is recognised.
            self.calls[index].call_id.clear();
        }
        self.clients.clear();
        self.services.clear();
        self.timers.clear();
        self.outbox.clear();
        self.connection = None;
        self.is_offline = false;
        self.framer = Framer::new();
        self.nonce = (String::new(), 0);
        if self.register_cseq > 0 && self.profile.password.is_some() {
            self.register_call_id = self.rng.token(16);
            self.register_cseq = 1;
            self.registration = Registration::None;
            self.at(now + BOOT, Wake::Register);
        }
    }
}
