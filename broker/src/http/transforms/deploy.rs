//! Deploying a transform, and what is checked before: everything that can be known.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use millstream_core::cluster::{
    self, Command, Image, Outcome, PluginRef, TransformChange, TransformSink, TransformSpec, Trial,
};
use millstream_core::config::OnError;
use millstream_core::ids::{TopicId, TopicName};
use millstream_kafka::api::create_topics::CreatableTopic;
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::body::{ChangedBody, DeployBody, DryRun, TransformBody, UpgradeBody, source_partitions};
use super::{place, refuse};
use crate::context::{Context, now_ms};
use crate::handlers::{admin, create_topics};
use crate::http::error::{ApiError, ErrorBody};
use crate::workers;

/// Deploys a transform, which runs at once.
#[utoipa::path(post, path = "/v1/transforms", params(DryRun), request_body = DeployBody,
    responses((status = 200, description = "It could be deployed; nothing was", body = ChangedBody),
        (status = 201, description = "It is deployed", body = ChangedBody),
        (status = 400, description = "It cannot be so", body = ErrorBody),
        (status = 409, description = "There is one of that name", body = ErrorBody),
        (status = 503, description = "The cluster cannot decide now", body = ErrorBody)))]
pub async fn deploy(
    State(context): State<Arc<Context>>,
    dry_run: Result<Query<DryRun>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ChangedBody>), ApiError> {
    let Query(DryRun { dry_run }) = dry_run.map_err(refuse::query)?;
    let asked: DeployBody = refuse::read(body)?;
    let wish = Wish::of(&context.controller.image(), asked)?;
    let (image, outcome) = wish.check(&context).await?;
    let (image, outcome) = match dry_run {
        true => (image, outcome),
        false => {
            let outcome = tokio::spawn(wish.grant(context.clone())).await;
            let outcome = outcome.map_err(|error| ApiError::internal(error.to_string()))??;
            (context.controller.image(), outcome)
        }
    };
    let Outcome::Transform(transform) = outcome else {
        return Err(ApiError::internal("the controller answered something else"));
    };
    let status = match dry_run {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    let body = ChangedBody {
        changed: !dry_run,
        transform: TransformBody::of(&image, &transform),
        moved: Vec::new(),
    };
    Ok((status, Json(body)))
}

/// Runs another plugin or configuration: everywhere, or on some partitions first.
#[utoipa::path(post, path = "/v1/transforms/{name}/upgrade", params(("name" = String, Path), DryRun),
    request_body = UpgradeBody,
    responses((status = 200, description = "It is so, or could be", body = ChangedBody),
        (status = 400, description = "It cannot be so", body = ErrorBody),
        (status = 404, description = "There is no such transform", body = ErrorBody),
        (status = 409, description = "Another upgrade is on trial", body = ErrorBody),
        (status = 503, description = "The cluster cannot decide now", body = ErrorBody)))]
pub async fn upgrade(
    State(context): State<Arc<Context>>,
    axum::extract::Path(name): axum::extract::Path<String>,
    dry_run: Result<Query<DryRun>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChangedBody>, ApiError> {
    let Query(DryRun { dry_run }) = dry_run.map_err(refuse::query)?;
    let asked: UpgradeBody = refuse::read(body)?;
    let from = asked.from.as_deref().map(place::parse).transpose()?;
    if from.is_some() && asked.canary.is_some() {
        let message = "an upgrade on trial goes on where the release of now is: leave out where it begins";
        return Err(refuse::invalid(message));
    }
    let transform = super::find(&context, &name)?;
    let plugin = plugin(&asked.plugin)?;
    let config = asked.config.as_deref().unwrap_or(&transform.current.config);
    let trial = asked.canary.map(|trial| Trial {
        percent: trial.percent,
        errors_permille_max: trial.errors_permille_max,
        promote_after_ms: trial.promote_after_ms,
    });
    let change = TransformChange::Upgrade {
        plugin: plugin.clone(),
        config: asked.config.clone(),
        trial,
    };
    super::check_change(&context, &name, &change)?;
    let checked = workers::check(&context, &transform.spec, &plugin, config).await;
    checked.map_err(refuse::invalid)?;
    match from {
        Some(to) => place::change_and_move(&context, &transform, change, to, dry_run).await,
        None => super::change(&context, &name, change, dry_run).await,
    }
    .map(Json)
}

/// A transform as it is asked for, with the topics that are made for it.
struct Wish {
    spec: TransformSpec,
    plugin: PluginRef,
    config: String,
    id: Uuid,
    /// Topics that are missing and are to be made, with so many partitions and replicas.
    missing: Vec<TopicName>,
    partitions: i32,
    replicas: i16,
}

impl Wish {
    /// What is asked for, in our terms.
    fn of(image: &Image, asked: DeployBody) -> Result<Self, ApiError> {
        let sources = asked.sources.iter().map(|name| topic(name));
        let sinks = asked.sinks.into_iter().map(|sink| {
            let topic = topic(&sink.topic)?;
            Ok(TransformSink {
                name: sink.name.unwrap_or(sink.topic),
                topic,
            })
        });
        let on_error = asked.on_error.as_deref().map(OnError::parse).transpose();
        let on_error = on_error.map_err(|reason| refuse::invalid(format!("on-error {reason}")))?;
        let mut spec = TransformSpec {
            name: asked.name,
            sources: sources.collect::<Result<_, ApiError>>()?,
            sinks: sinks.collect::<Result<_, ApiError>>()?,
            workers: 0,
            guarantee: asked.guarantee,
            commit_interval_ms: asked.commit_interval_ms.unwrap_or(COMMIT_INTERVAL_MS),
            commit_bytes: asked.commit_bytes.unwrap_or(COMMIT_BYTES),
            start: asked.start,
            on_error: on_error.unwrap_or_default(),
            limits: asked.limits,
        };
        let partitions = u32::try_from(source_partitions(image, &spec)).unwrap_or(u32::MAX);
        spec.workers = asked.workers.unwrap_or(partitions.clamp(1, WORKERS_UNASKED_MAX));
        let mut missing: Vec<TopicName> = Vec::new();
        for output in spec.outputs().filter(|_| asked.create_sinks) {
            if image.topic(output).is_none() && !missing.contains(output) {
                missing.push(output.clone());
            }
        }
        let first = spec.sources.first().and_then(|name| image.topic(name));
        let partitions = first.map_or(&[][..], |topic| image.partitions(topic));
        // A sink that stands still with a broker would hold up what outlives it.
        let replicas = partitions.first().map_or(1, |partition| partition.replicas.len());
        Ok(Self {
            spec,
            plugin: plugin(&asked.plugin)?,
            config: asked.config,
            id: Uuid::new_v4(),
            missing,
            // Without a source there is no transform, which is told by whoever decides on it.
            partitions: i32::try_from(partitions.len().max(1)).unwrap_or(i32::MAX),
            replicas: i16::try_from(replicas).unwrap_or(i16::MAX),
        })
    }

    fn command(&self) -> Command {
        Command::DeployTransform {
            spec: self.spec.clone(),
            plugin: self.plugin.clone(),
            config: self.config.clone(),
            id: self.id,
            at_ms: now_ms(),
        }
    }

    /// Makes a missing topic.
    fn create(&self, context: &Context, name: &TopicName) -> Result<Command, ApiError> {
        let asked = CreatableTopic {
            name: Text::from(name.as_str()),
            num_partitions: self.partitions,
            replication_factor: self.replicas,
            ..Default::default()
        };
        create_topics::command(context, &asked).map_err(refuse::topic)
    }

    /// Does it to a copy of the image, and asks the plugin.
    async fn check(&self, context: &Arc<Context>) -> Result<(Arc<Image>, Outcome), ApiError> {
        let mut image = Image::clone(&context.controller.image());
        for name in &self.missing {
            let create = self.create(context, name)?;
            cluster::apply(&mut image, &create).map_err(|refusal| refuse::by_image(&refusal))?;
        }
        let deployed = cluster::apply(&mut image, &self.command());
        let outcome = deployed.map_err(|refusal| refuse::by_image(&refusal))?;
        let checked = workers::check(context, &self.spec, &self.plugin, &self.config).await;
        checked.map_err(refuse::invalid)?;
        Ok((Arc::new(image), outcome))
    }

    /// Does it. If it is refused after all, since the cluster has changed meanwhile, the topics that were made for it go again.
    async fn grant(self, context: Arc<Context>) -> Result<Outcome, ApiError> {
        let mut made = Vec::new();
        let granted = match self.make_topics(&context, &mut made).await {
            Ok(()) => context.controller.apply(self.command()).await,
            Err(error) => {
                take_back(&context, made).await;
                return Err(error);
            }
        };
        let granted = granted.map_err(refuse::command);
        // One that nobody can decide on now may be decided on later.
        if granted.as_ref().is_err_and(|error| !error.is_passing()) {
            take_back(&context, made).await;
        }
        granted
    }

    /// Makes the missing topics, and notes in `made` which are there for it.
    async fn make_topics(&self, context: &Arc<Context>, made: &mut Vec<TopicId>) -> Result<(), ApiError> {
        for name in &self.missing {
            let create = self.create(context, name)?;
            let id = match &create {
                Command::CreateTopic { id, .. } => Some(*id),
                _ => None,
            };
            admin::apply(context, create, false)
                .await
                .map_err(refuse::topic)?;
            made.extend(id);
        }
        Ok(())
    }
}

/// Has topics go again that were made for a transform that is not deployed.
async fn take_back(context: &Context, made: Vec<TopicId>) {
    for id in made {
        let gone = context.controller.apply(Command::DeleteTopic { id }).await;
        if let Err(refused) = gone {
            let reason = refused.message;
            tracing::warn!(
                reason,
                "a topic stays that was made for a transform that is refused"
            );
        }
    }
}

fn topic(name: &str) -> Result<TopicName, ApiError> {
    TopicName::new(name).map_err(|error| refuse::invalid(error.to_string()))
}

fn plugin(reference: &str) -> Result<PluginRef, ApiError> {
    PluginRef::parse(reference).map_err(|error| refuse::invalid(error.to_string()))
}

/// Workers where nothing is said: one for each partition, up to so many.
const WORKERS_UNASKED_MAX: u32 = 4;
/// Longest time between two commits, where nothing is said.
const COMMIT_INTERVAL_MS: u32 = 100;
/// Bytes read after which there is a commit, where nothing is said.
const COMMIT_BYTES: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::tests::{World, guests};

    fn asked(name: &str) -> DeployBody {
        let body = format!(
            r#"{{"name":"{name}","plugin":"router","sources":["in"],"sinks":[{{"topic":"x"}},{{"topic":"y"}}],"create-sinks":true}}"#
        );
        serde_json::from_str(&body).unwrap()
    }

    async fn world() -> World {
        let world = World::start().await;
        world.create("in", 1, &[]).await.unwrap();
        world.push("router", guests::router()).await.unwrap();
        world
    }

    fn wish(world: &World, name: &str) -> Wish {
        let wish = Wish::of(&world.context().controller.image(), asked(name));
        wish.unwrap_or_else(|_| panic!("it can be wished"))
    }

    fn is_there(world: &World, topic: &str) -> bool {
        world.context().controller.image().topic(topic).is_some()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sinks_that_were_made_for_a_transform_that_is_refused_after_all_go_again() {
        let world = world().await;
        let (mut first, late) = (wish(&world, "t"), wish(&world, "t"));
        // Another one of that name comes first, and writes elsewhere.
        world.create("other", 1, &[]).await.unwrap();
        first.missing.clear();
        first.spec.sinks = vec![TransformSink {
            name: "other".to_owned(),
            topic: TopicName::new("other").unwrap(),
        }];
        assert!(first.grant(world.context().clone()).await.is_ok());
        let refused = late.grant(world.context().clone()).await;
        assert!(refused.is_err_and(|error| !error.is_passing()));
        assert!(!is_there(&world, "x") && !is_there(&world, "y"));
        world.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sinks_that_others_made_meanwhile_stay() {
        let world = world().await;
        let late = wish(&world, "t");
        world.create("y", 1, &[]).await.unwrap();
        assert!(
            late.grant(world.context().clone()).await.is_err(),
            "one of them is there"
        );
        assert!(!is_there(&world, "x") && is_there(&world, "y"));
        world.end().await;
    }
}
