//! Stories of nodes and their disks.

mod crash;
mod cut_disk;
mod damage;
mod members;
mod nodes;
mod replaced;
mod scene;
mod suite;
