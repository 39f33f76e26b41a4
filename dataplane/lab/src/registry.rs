//! The records of running labs, one JSON file each under `/run/weir-lab`. A record exists
//! before the first thing of its lab does and names the process that owns it, so that
//! whatever a killed process left behind can be told from what is in use.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::spec::is_id;
use crate::{LabError, teardown, tool};

pub(crate) const DIR: &str = "/run/weir-lab";
/// One id in 36^6 is taken; more failures than this mean that something else is wrong.
const ID_ATTEMPTS: u32 = 100;

/// Others hold the lock for milliseconds, or seconds when something they remove resists.
const LOCK_LIMIT: Duration = Duration::from_secs(20);

/// A lab's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) owner: Owner,
    /// Absent until the lab is complete.
    pub(crate) layout: Option<Layout>,
    /// What the owner tells others, such as the address of its admin interface.
    #[serde(default)]
    pub(crate) notes: BTreeMap<String, String>,
}

/// A process, told from a later one of the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)).
    pub(crate) started: u64,
}

impl Owner {
    pub(crate) fn this_process() -> Result<Self, LabError> {
        let pid = std::process::id();
        let started = start_of(pid).ok_or_else(|| LabError::BadRecord {
            path: format!("/proc/{pid}/stat"),
            detail: "no start time".to_owned(),
        })?;
        Ok(Self { pid, started })
    }

    pub(crate) fn is_alive(self) -> bool {
        start_of(self.pid) == Some(self.started)
    }
}

/// `None` for a process that is gone or a zombie.
fn start_of(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in field 2 may hold spaces and parentheses, so counting begins after its last.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// An id that no record and no namespace uses.
#[must_use]
pub fn pick_free_id() -> String {
    let random = || {
        let mut rest = random();
        let mut digit = || {
            let digit = char::from_digit((rest % 36) as u32, 36).unwrap_or('0');
            rest /= 36;
            digit
        };
        std::iter::repeat_with(&mut digit).take(6).collect::<String>()
    };
    let free = |id: &String| !path_of(id).exists() && teardown::things_of(id).is_empty();
    std::iter::repeat_with(random).take(ID_ATTEMPTS as usize).find(free).unwrap_or_else(random)
}

/// Removes a lab if its owner is gone; `false` when there was nothing to do. Looking again
/// under the lock matters: another process may have removed it and taken its id meanwhile.
fn remove_stale(id: &str) -> Result<bool, LabError> {
    let _turn = lock()?;
    match read(&path_of(id))? {
        Some(record) if !record.owner.is_alive() => teardown::remove(id).map(|()| true),
        _ => Ok(false),
    }
}

/// One process at a time, until the file is dropped.
pub(crate) fn lock() -> Result<File, LabError> {
    let dir = match File::open(DIR) {
        // Gone with the last lab: there is nobody to wait for.
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir_all(DIR).and_then(|()| File::open(DIR)),
        other => other,
    };
    let dir = dir.map_err(LabError::io(format!("open {DIR}")))?;
    if tool::until(LOCK_LIMIT, || dir.try_lock().is_ok()) {
        return Ok(dir);
    }
    Err(LabError::io(format!("lock {DIR}"))(io::ErrorKind::TimedOut.into()))
}

/// Seeded by the system's generator; good enough for names.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// Takes an id for this process.
pub(crate) fn claim(id: &str) -> Result<Record, LabError> {
    let record = Record { id: id.to_owned(), owner: Owner::this_process()?, layout: None, notes: BTreeMap::new() };
    let draft = first_draft(&record)?;
    // A hard link appears complete or not at all, and never over another one.
    let linked = fs::hard_link(&draft, path_of(id));
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(record),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match read(&path_of(id))? {
            Some(other) if other.owner.is_alive() => Err(LabError::IdTaken { id: id.to_owned(), pid: other.owner.pid }),
            _ => {
                remove_stale(id)?;
                claim(id)
            }
        },
        Err(e) => Err(LabError::io(format!("record the lab {id}"))(e)),
    }
}

/// Replaces a record by its new content, in one step.
pub(crate) fn update(record: &Record) -> Result<(), LabError> {
    let draft = draft(record)?;
    fs::rename(&draft, path_of(&record.id)).map_err(LabError::io(format!("record the lab {}", record.id)))
}

/// The directory goes with the last lab, perhaps between its creation here and its use.
fn first_draft(record: &Record) -> Result<PathBuf, LabError> {
    let write = || {
        fs::create_dir_all(DIR).map_err(LabError::io(format!("create {DIR}")))?;
        draft(record)
    };
    write().or_else(|_| write())
}

/// Forgets a lab that is gone.
pub(crate) fn forget(id: &str) -> Result<(), LabError> {
    let path = path_of(id);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(LabError::io(format!("remove {}", path.display()))(e));
        }
        _ => {}
    }
    // Fails while there are other labs, which is right.
    let _ = fs::remove_dir(DIR);
    Ok(())
}

fn draft(record: &Record) -> Result<PathBuf, LabError> {
    let name = format!(".draft-{}-{:x}", record.owner.pid, random());
    let draft = Path::new(DIR).join(name);
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    text.and_then(|text| fs::write(&draft, text)).map_err(LabError::io(format!("write {}", draft.display())))?;
    Ok(draft)
}

pub(crate) fn path_of(id: &str) -> PathBuf {
    Path::new(DIR).join(format!("{id}.json"))
}

/// Whether there is a record of this lab: it is being built, runs, or was killed and not yet removed. Whatever bears the
/// id of a lab without one belongs to nobody.
#[must_use]
pub fn is_known(id: &str) -> bool {
    path_of(id).exists()
}

/// `None` when there is no such record (any more).
fn read(path: &Path) -> Result<Option<Record>, LabError> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LabError::io(format!("read {}", path.display()))(e)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| LabError::BadRecord { path: path.display().to_string(), detail: e.to_string() }),
    }
}

fn all() -> Result<Vec<Record>, LabError> {
    let entries = match fs::read_dir(DIR) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(LabError::io(format!("list {DIR}")))?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry.map_err(LabError::io(format!("list {DIR}")))?.path();
        let id = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == "json") && is_id(id) {
            records.extend(read(&path)?);
        }
    }
    Ok(records)
}

/// The ids of this process's labs, also half built ones.
pub(crate) fn own() -> Result<Vec<String>, LabError> {
    let this = Owner::this_process()?;
    Ok(all()?.into_iter().filter(|record| record.owner == this).map(|record| record.id).collect())
}

/// Removes the labs whose process is gone and returns their ids.
///
/// # Errors
/// When something of a lab resists, after the other labs were removed.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let (mut swept, mut left) = (Vec::new(), Vec::new());
    for record in all()?.into_iter().filter(|r| !r.owner.is_alive()) {
        match remove_stale(&record.id) {
            Ok(true) => swept.push(record.id),
            Ok(false) => {}
            Err(LabError::Leftovers(mut some)) => left.append(&mut some),
            Err(e) => left.push(e.to_string()),
        }
    }
    sweep_drafts();
    if left.is_empty() { Ok(swept) } else { Err(LabError::Leftovers(left)) }
}

/// Drafts of processes that died between writing and linking.
fn sweep_drafts() {
    for entry in fs::read_dir(DIR).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(".draft-")?.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| start_of(pid).is_none()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A lab that another process keeps running. Dereferences to its [`Layout`].
#[derive(Debug, Clone)]
pub struct RunningLab {
    layout: Layout,
    owner: Owner,
    notes: BTreeMap<String, String>,
}

impl RunningLab {
    /// All complete labs whose process lives, by id.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn all() -> Result<Vec<Self>, LabError> {
        let alive = all()?.into_iter().filter(|r| r.owner.is_alive());
        let mut labs: Vec<_> =
            alive.filter_map(|r| Some(Self { layout: r.layout?, owner: r.owner, notes: r.notes })).collect();
        labs.sort_by(|a, b| a.layout.id.cmp(&b.layout.id));
        Ok(labs)
    }

    /// The lab of this id, or the only one there is.
    ///
    /// # Errors
    /// When there is none, or several and no id was given.
    pub fn find(id: Option<&str>) -> Result<Self, LabError> {
        let mut labs = Self::all()?;
        if let Some(id) = id {
            if let Some(position) = labs.iter().position(|lab| lab.layout.id == id) {
                return Ok(labs.swap_remove(position));
            }
            let ids: Vec<_> = labs.into_iter().map(|lab| lab.layout.id).collect();
            return Err(LabError::NoSuchLab { id: id.to_owned(), running: ids.join(", ") });
        }
        match labs.len() {
            0 => Err(LabError::NotRunning),
            1 => Ok(labs.swap_remove(0)),
            _ => {
                let ids: Vec<_> = labs.into_iter().map(|lab| lab.layout.id).collect();
                Err(LabError::Ambiguous(ids.join(", ")))
            }
        }
    }

    /// The process that owns it.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner.pid
    }

    /// What the owner noted, see [`Lab::note`](crate::Lab::note).
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }
}

impl Deref for RunningLab {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_survive_odd_names_and_zombies_count_as_dead() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = |state: &str| format!("7 (a) b ( c) {state} {tail}");
        assert_eq!(parse_stat(&stat("S")), Some(4711));
        assert_eq!(parse_stat(&stat("Z")), None);
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert!(Owner::this_process().unwrap().is_alive());
        let other = Owner { started: 1, ..Owner::this_process().unwrap() };
        assert!(!other.is_alive());
    }

    #[test]
    fn ids_are_valid_and_differ() {
        let (a, b) = (pick_free_id(), pick_free_id());
        assert!(is_id(&a) && is_id(&b), "{a} {b}");
        assert_ne!(a, b);
    }
}
