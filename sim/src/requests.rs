//! What a node is asked, by clients and by other brokers.

use crate::client::{Answer, Asker, Request};
use crate::node::Process;
use crate::replica::{Fatal, Position, Scene};

impl Process {
    /// Answers, at once or later.
    pub fn request(
        &mut self,
        asker: Asker,
        id: u64,
        request: Request,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let partition = match request {
            Request::Produce { partition, .. }
            | Request::Fetch { partition, .. }
            | Request::Trim { partition, .. } => partition,
            Request::Part(request) => return self.here(scene).request(asker, id, request),
        };
        let has_lease = self.has_lease(scene.now_ms);
        let Some(replica) = self.replicas.get_mut(&partition) else {
            scene
                .bus
                .answer(scene.life.node, asker, id, Answer::NotLeader(None));
            return Ok(());
        };
        match request {
            Request::Produce { .. } if !has_lease => {
                scene.bus.answer(scene.life.node, asker, id, Answer::Later);
                Ok(())
            }
            Request::Produce {
                batch,
                part: Some(transactional_id),
                ..
            } => self
                .here(scene)
                .produce((asker, id), partition, batch, transactional_id),
            Request::Produce { batch, .. } => replica.produce(asker, id, &batch, scene),
            Request::Fetch {
                offset,
                epoch,
                of_leader,
                committed,
                ..
            } => {
                let position = Position {
                    offset,
                    epoch,
                    of_leader,
                    committed,
                };
                replica.fetch(asker, id, &position, scene)
            }
            Request::Trim { before, .. } => {
                let trimmed = replica.trim(before, scene);
                scene.bus.answer(scene.life.node, asker, id, Answer::Later);
                trimmed
            }
            Request::Part(_) => unreachable!("it is answered above"),
        }
    }

    /// Another broker answers what it was asked.
    pub fn answered(&mut self, id: u64, answer: Answer, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        self.here(scene).answered(id, answer)
    }
}
