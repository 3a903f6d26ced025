//! What the phone does before the call is answered: INVITEs without an offer (RFC 3261 section 13.2.1), and reliable
//! provisional responses (RFC 3262) that settle the session.

use super::*;

/// Offer and answer of one call outside INVITE and 200.
#[derive(Default)]
pub(super) struct Early {
    /// RSeq of the last reliable response heard, or of ours.
    rseq: Option<u32>,
    /// A reliable response and its PRACK have settled the session.
    pub(super) is_settled: bool,
    /// Media plays before the answer.
    pub(super) speaks: bool,
    /// We have offered, and the ACK or PRACK answers.
    pub(super) awaits_answer: bool,
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.sdp().unwrap_or_default()).into_owned()
}

fn lists_100rel(message: &Message, name: Name) -> bool {
    message.values(name).any(|tag| tag == "100rel")
}

impl Phone {
    // As caller.

    /// Acknowledges a reliable response to an INVITE, once; its session description counts for good.
    pub(super) fn prack(&mut self, now: Instant, at: usize, index: usize, response: &Message) {
        let rseq = response.header(Name::RSeq).and_then(|value| value.parse::<u32>().ok());
        let (true, Some(rseq)) = (lists_100rel(response, Name::Require), rseq) else {
            if self.extra_headers.iter().any(|(name, _)| *name == "Require") && response.status() > 100 {
                self.faults.push(format!("a {} that should be reliable", response.status()));
            }
            return;
        };
        let has_offered = self.clients[at].draft.body.is_some();
        let invite_cseq = self.clients[at].draft.cseq;
        let call = &mut self.calls[index];
        if call.early.rseq.is_some_and(|last| rseq != last + 1) || matches!(call.state, State::Ended(_)) {
            return;
        }
        call.early.rseq = Some(rseq);
        let sdp = text(response);
        let body = if sdp.is_empty() {
            None
        } else if has_offered {
            call.early.is_settled = true;
            if let Err(why) = call.voice.read_answer(&sdp) {
                call.voice.faults.push(why);
            }
            None
        } else {
            call.early.is_settled = true;
            let answer = call.voice.answer(&sdp);
            if answer.is_none() {
                call.voice.faults.push("an early offer that this phone cannot take".into());
            }
            answer
        };
        call.cseq += 1;
        let mut routes: Vec<_> = response.values(Name::RecordRoute).map(str::to_owned).collect();
        routes.reverse();
        let draft = Draft {
            uri: response.contact().map_or_else(|| call.target.clone(), |contact| contact.uri.to_owned()),
            to: format!("{};tag={}", call.remote, response.to_tag().unwrap_or_default()),
            routes,
            headers: vec![("RAck", format!("{rseq} {invite_cseq} INVITE"))],
            body,
            ..Self::dialog_draft(call, "PRACK")
        };
        self.send(now, draft, Purpose::Prack(index), 0);
    }

    /// What the ACK of the 200 to our INVITE carries.
    pub(super) fn read_final(&mut self, has_offered: bool, index: usize, response: &Message) -> Option<String> {
        let call = &mut self.calls[index];
        let sdp = text(response);
        let mut answer = None;
        let fault = if call.early.is_settled {
            (!sdp.is_empty()).then(|| "a 200 says again what a reliable response has settled".to_owned())
        } else if has_offered {
            call.voice.read_answer(&sdp).err()
        } else {
            answer = call.voice.answer(&sdp);
            answer.is_none().then(|| "a 200 without an offer that this phone can take".to_owned())
        };
        call.voice.faults.extend(fault);
        answer
    }

    // As callee.

    /// 180, or a reliable 183 with what there is to say about the session.
    pub(super) fn ring(&mut self, now: Instant, at: usize, index: usize) {
        let invite = self.services[at].request.clone();
        let is_possible = lists_100rel(&invite, Name::Supported) || lists_100rel(&invite, Name::Require);
        if !self.settles_early || !is_possible {
            return self.reply(now, at, 180, None);
        }
        let Some(sdp) = self.session_for(index) else { return self.reply(now, at, 180, None) };
        let call = &mut self.calls[index];
        let rseq = 1 + self.rng.below(1_000_000);
        call.early.rseq = Some(rseq);
        call.early.is_settled = true;
        let bytes = ResponseBuilder::to(&invite, 183, "Session Progress", &call.local_tag, self.profile.server)
            .header("Contact", self.contact())
            .header("Require", "100rel")
            .header("RSeq", rseq)
            .body("application/sdp", sdp.as_bytes())
            .finish();
        self.outbox.push(bytes.clone());
        let service = &mut self.services[at];
        service.response = Some(bytes);
        service.status = 183;
        service.resend_at = Some(now + T1);
        service.give_up_at = Some(now + GIVE_UP);
    }

    /// Our answer to the INVITE's offer, or our offer if it has none.
    pub(super) fn session_for(&mut self, index: usize) -> Option<String> {
        let call = &mut self.calls[index];
        let offer = call.invite.as_ref().map(text).unwrap_or_default();
        if offer.is_empty() {
            call.early.awaits_answer = true;
            return Some(call.voice.offer());
        }
        call.voice.answer(&offer)
    }

    /// Whether our reliable response still waits for its PRACK.
    pub(super) fn awaits_prack(&self, index: usize) -> bool {
        self.services.iter().any(|s| s.call == Some(index) && s.status == 183 && s.resend_at.is_some())
    }

    pub(super) fn acknowledged_early(&mut self, now: Instant, at: usize) {
        let prack = self.services[at].request.clone();
        let rack = prack.header(Name::RAck).unwrap_or_default().to_owned();
        let call = self.calls.iter().position(|call| {
            let invite = call.invite.as_ref().and_then(|invite| invite.cseq().map(|cseq| cseq.number)).unwrap_or(0);
            let expected = call.early.rseq.map(|rseq| format!("{rseq} {invite} INVITE"));
            call.call_id == prack.call_id() && !call.is_caller && expected.as_ref() == Some(&rack)
        });
        let Some(index) = call else { return self.reply(now, at, 481, None) };
        let cseq = prack.cseq().map_or(0, |cseq| cseq.number);
        if cseq <= self.calls[index].remote_cseq {
            self.faults.push(format!("CSeq {cseq} of a PRACK does not rise"));
        }
        self.calls[index].remote_cseq = cseq;
        for service in self.services.iter_mut().filter(|s| s.call == Some(index) && s.status == 183) {
            if service.resend_at.take().is_none() {
                self.faults.push("a second PRACK for one response".into());
            }
            service.give_up_at = None;
        }
        self.services[at].call = Some(index);
        self.reply(now, at, 200, None);
        self.read_late_answer(now, index, &prack);
    }

    /// The answer to our offer, in a PRACK or an ACK. One that refuses everything announces a BYE or CANCEL.
    pub(super) fn read_late_answer(&mut self, now: Instant, index: usize, message: &Message) {
        let call = &mut self.calls[index];
        if !std::mem::take(&mut call.early.awaits_answer) || matches!(call.state, State::Ended(_)) {
            return;
        }
        let answer = text(message);
        if !answer.contains("m=audio 0 ") {
            if let Err(why) = call.voice.read_answer(&answer) {
                call.voice.faults.push(why);
            }
            self.start_voice(now, index);
        }
    }

    /// Nobody acknowledges what we said before the answer (RFC 3262 section 3).
    pub(super) fn give_up_early(&mut self, now: Instant, index: usize) {
        self.finish_invite(now, index, 504, None);
        self.end(index, 504, false);
    }
}
