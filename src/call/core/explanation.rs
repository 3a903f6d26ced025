//! What would become of a call now, in words.

use super::{Core, capacity};
use crate::policy::{
    explanation::{self, Origin, Present, World},
    outside::{Standing, Used},
};

impl Core {
    /// Every step of the decision about a call, one a line. `None`: there is no such user or trunk.
    pub fn explain(&self, origin: &Origin, dialled: &str) -> Option<String> {
        let (config, directory) = (&*self.ctx.config, &*self.ctx.directory);
        explanation::explain(origin, dialled, &World { config, directory, site: &self.site, present: Some(self) })
    }
}

impl Present for Core {
    fn used_by_user(&self, user: &str) -> Used {
        self.used_by(user)
    }

    fn used_on_trunk(&self, trunk: usize) -> Used {
        self.used_on(trunk)
    }

    fn standing_of(&self, trunk: usize) -> Standing {
        self.trunk_standing(trunk)
    }

    fn devices_of(&self, user: &str) -> usize {
        self.registrar.contacts(user).count()
    }

    fn refusal(&self) -> Option<&'static str> {
        self.present_rejection().map(capacity::reason)
    }
}
