//! A call to the carrier's test number by the operator's order (emergency RULES 2.6): the way of an emergency call without an
//! emergency, and without a telephone. What the carrier says is not listened to, only that it answers.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    super::{
        call::{Call, Caller, Parts},
        context::Side,
        emergency_call::{EmergencyInfo, Origin},
        interface::{Output, TestCall, TestRefusal},
        leg::{Leg, Peer},
    },
    Core, emergency_plan,
};
use crate::{
    policy::emergency::{self, Class, Decision, Dialled, Situation, Source, texts::Language},
    types::{ConnectionId, Duration, Flow, Transport},
    wire::sdp,
};

/// Whoever has not answered by then does not.
const RING_MAX: Duration = Duration::from_secs(60);
const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n";
const OPERATOR: &str = "operator";

impl Core {
    pub(super) fn order_test_call(&mut self, id: u64) {
        if let Err(refusal) = self.begin_test_call(id) {
            self.ctx.outputs.push_back(Output::TestCalled { id, result: Err(refusal) });
        }
    }

    fn begin_test_call(&mut self, order: u64) -> Result<(), TestRefusal> {
        if !self.test_calls.is_empty() {
            return Err(TestRefusal::UnderWay);
        }
        let number = self.site.test_numbers().next().unwrap_or("urn:service:test.sos").to_owned();
        let Dialled::Test(dialled) = emergency::classify(&number, &self.site) else {
            return Err(TestRefusal::NoTestNumber);
        };
        let source = Source::AuthenticatedDevice;
        let turn = self.ctx.counters.emergency_routed;
        let situation = Situation { class: Class::Test, source, user: None, line: None, turn };
        let is_up = |trunk| self.ctx.trunks.is_believed_up(self.ctx.now, trunk, &self.ctx.listeners);
        let Decision::Route(route) = emergency::decide(&situation, &self.ctx.config, is_up) else {
            let has_trunk = emergency::is_available(&self.ctx.config);
            return Err(if has_trunk { TestRefusal::NoTestNumber } else { TestRefusal::NoTrunk });
        };
        let (id, plan) = (self.next_id(), emergency_plan(&route));
        let source_ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let language = Language::accepted(std::iter::empty());
        let origin = Origin { aor: OPERATOR.to_owned(), device: None, source_ip, has_location: false, language };
        let emergency = Some(EmergencyInfo::new(Class::Test, &dialled, route, origin));
        let caller = Caller {
            peer: Peer::Unknown,
            user: OPERATOR.to_owned(),
            display: String::new(),
            direct_line: None,
            is_private: false,
            verification: None,
            signed: None,
        };
        let local = self.ctx.listeners.first().map(|(_, address)| *address);
        let local = local.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
        let flow = Flow { transport: Transport::Udp, local, remote: local, connection: ConnectionId::NONE };
        let mut a = Leg::absent(&mut self.ctx, (id, Side::A), flow);
        a.session = sdp::parse(OFFER).ok();
        let worker = self.least_loaded();
        let parts = Parts { id, a, caller, callee: dialled.dialled.clone(), worker, plan, emergency };
        let mut call = Call::of(&mut self.ctx, parts);
        call.test_until = Some(self.ctx.now + RING_MAX);
        self.test_calls.insert(id, order);
        call.next_wave(&mut self.ctx);
        self.keep_new(call);
        Ok(())
    }

    /// The operator hears what became of it.
    pub(super) fn report_test_call(&mut self, call: &Call) {
        let Some(id) = self.test_calls.remove(&call.id) else { return };
        let cdr = &call.cdr;
        let result = TestCall {
            time_ms: cdr.start_ms,
            dialed: cdr.callee.clone(),
            is_answered: cdr.answer_ms.is_some(),
            trunk: cdr.trunk.clone(),
            status: cdr.status,
            reason: cdr.reason.clone(),
            setup_ms: cdr.answer_ms.map(|answer| answer.saturating_sub(cdr.start_ms)),
        };
        self.last_test_call = Some(result.clone());
        self.ctx.outputs.push_back(Output::TestCalled { id, result: Ok(result) });
    }
}
