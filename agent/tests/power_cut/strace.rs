//! What a real program did to its state directory, read from `strace -f -y -xx`.
//!
//! A line or a call that is not understood is an error: nothing that reaches the disk may be missed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::image::{Image, Op};
use crate::threads;
use crate::timeline::{ASKED, CONNECTS};

/// What strace is to record. Maps and rings are in it so that they are noticed; see [`Reader::refuse`].
pub const CALLS: &str = "trace=openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,\
    renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync_file_range,syncfs,\
    sync,msync,copy_file_range,sendfile,splice,ioctl,mmap,io_uring_setup,chmod,fchmod,fchmodat,mknod,mknodat,execve,connect";

/// One call that ended.
struct Call {
    thread: String,
    name: String,
    arguments: Vec<String>,
    result: i64,
}

/// Stitches lines together and keeps the order in which calls ended; but a program is seen from when its start began. Whoever
/// started it goes on before the call has ended, and what is done from there on does not come before it.
fn calls(text: &str) -> Result<Vec<Call>, String> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let (pid, rest) = line.split_once(' ').ok_or_else(|| format!("not understood: {line}"))?;
        let rest = rest.trim_start().trim_end_matches(" (DELAYED)");
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            if begun.insert(pid, (n, start)).is_some() {
                return Err(format!("two calls at once: {line}"));
            }
            continue;
        }
        let (from, whole) = match rest.strip_prefix("<... ") {
            None => (n, rest.to_owned()),
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").ok_or_else(|| format!("not understood: {line}"))?;
                let (from, start) = begun.remove(pid).ok_or_else(|| format!("never begun: {line}"))?;
                (from, format!("{}{end}", start.trim_end()))
            }
        };
        let call = call(pid, &whole)?;
        calls.extend(call.map(|call| (if call.name == "execve" { from } else { n }, call)));
    }
    calls.sort_by_key(|(n, _)| *n);
    Ok(calls.into_iter().map(|(_, call)| call).collect())
}

/// A whole call; nothing of one that failed.
fn call(thread: &str, line: &str) -> Result<Option<Call>, String> {
    let parts = line.split_once('(').and_then(|(name, rest)| {
        let (arguments, result) = rest.rsplit_once(") ")?;
        Some((name, arguments, result.trim_start().strip_prefix("= ")?))
    });
    let not_understood = || format!("not understood: {line}");
    let (name, arguments, result) = parts.ok_or_else(not_understood)?;
    let number: String = result.chars().take_while(|c| c.is_ascii_digit() || *c == '-' || *c == 'x').collect();
    // A connection may be told to have begun by an error.
    if (result.starts_with('?') || number.starts_with('-')) && name != "connect" {
        return Ok(None);
    }
    let known = number.starts_with("0x") || name == "connect";
    let result = if known { 0 } else { number.parse().map_err(|_| not_understood())? };
    Ok(Some(Call { thread: thread.to_owned(), name: name.to_owned(), arguments: split(arguments), result }))
}

/// Arguments, split at commas outside of brackets. Strings have none: every byte of them is written as a number.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_i32);
    for c in text.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// The bytes of `\x..\x..`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    let mut parts = text.split("\\x");
    parts.next()?.is_empty().then_some(())?;
    parts.map(|part| u8::from_str_radix(part, 16).ok()).collect()
}

fn path(text: &str) -> Option<PathBuf> {
    String::from_utf8(bytes(text)?).ok().map(PathBuf::from)
}

/// The path of a descriptor, `7<\x2f...>`.
fn descriptor(text: &str) -> Option<PathBuf> {
    let (_, inner) = text.split_once('<')?;
    let (inner, _) = inner.split_once('>')?;
    path(inner)
}

fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches('0'), 8).ok().or_else(|| text.bytes().all(|b| b == b'0').then_some(0))
}

/// Reads what was done below `state`; `image` is what lay there before. Calls elsewhere do not matter, but for the start of a
/// program below it and for words on standard output, which are marks.
pub fn read(text: &str, state: &Path, mut image: Image) -> Result<Vec<Op>, String> {
    let mut ops = Vec::new();
    for call in calls(text)? {
        let reader = Reader { call: &call, state };
        for op in reader.ops(&image).map_err(|e| format!("{}({}): {e}", call.name, call.arguments.join(", ")))? {
            image.apply(&op)?;
            ops.push((call.thread.clone(), op));
        }
    }
    Ok(threads::in_one_order(ops))
}

struct Reader<'a> {
    call: &'a Call,
    state: &'a Path,
}

impl Reader<'_> {
    fn argument(&self, n: usize) -> Result<&str, String> {
        self.call.arguments.get(n).map(String::as_str).ok_or_else(|| "it has fewer arguments".to_owned())
    }

    /// A path below the state directory, as given in one argument.
    fn plain(&self, n: usize) -> Result<Option<PathBuf>, String> {
        Ok(self.below(&path(self.argument(n)?).ok_or("a path is not understood")?))
    }

    /// The same of a directory's descriptor and a name in two.
    fn at(&self, n: usize) -> Result<Option<PathBuf>, String> {
        let directory = descriptor(self.argument(n)?).unwrap_or_default();
        let name = path(self.argument(n + 1)?).ok_or("a path is not understood")?;
        Ok(self.below(&directory.join(name)))
    }

    /// The same of a descriptor. `None` also for what is no file, and for a file without a name.
    fn open(&self, n: usize) -> Result<Option<PathBuf>, String> {
        Ok(descriptor(self.argument(n)?).and_then(|path| self.below(&path)))
    }

    fn below(&self, path: &Path) -> Option<PathBuf> {
        if path.to_string_lossy().ends_with(" (deleted)") {
            return None;
        }
        let below = path.strip_prefix(self.state).ok()?;
        (below != Path::new("agent.sock")).then(|| below.to_owned())
    }

    fn ops(&self, image: &Image) -> Result<Vec<Op>, String> {
        let one = |op: Option<Op>| Ok(op.into_iter().collect());
        match self.call.name.as_str() {
            "openat" => self.opened(self.at(0)?, 2, image),
            "open" => self.opened(self.plain(0)?, 1, image),
            "creat" | "truncate" | "mknod" | "mknodat" | "sync" | "syncfs" | "splice" => {
                Err("the model does not know this call".into())
            }
            "write" => self.written(1, None),
            "pwrite64" => self.written(1, Some(3)),
            "writev" | "pwritev" | "pwritev2" => self.refuse(0),
            "ftruncate" => one(self.open(0)?.map(|path| Op::Truncate { path, length: self.number(1) })),
            "fallocate" | "copy_file_range" | "sendfile" => self.refuse(0).and_then(|_| self.refuse(2)),
            "rename" => renamed(self.plain(0)?, self.plain(1)?),
            "renameat" | "renameat2" => renamed(self.at(0)?, self.at(2)?),
            "link" => one(self.plain(0)?.zip(self.plain(1)?).map(|(from, to)| Op::Link { from, to })),
            "symlink" => {
                let target = path(self.argument(0)?).ok_or("a link is not understood")?;
                one(self.plain(1)?.map(|path| Op::Symlink { path, target }))
            }
            "linkat" => one(self.at(0)?.zip(self.at(2)?).map(|(from, to)| Op::Link { from, to })),
            "symlinkat" => {
                let target = path(self.argument(0)?).ok_or("a link is not understood")?;
                one(self.at(1)?.map(|path| Op::Symlink { path, target }))
            }
            "unlink" | "rmdir" => one(self.plain(0)?.map(|path| Op::Remove { path })),
            "unlinkat" => one(self.at(0)?.map(|path| Op::Remove { path })),
            "mkdir" => self.made(self.plain(0)?, 1),
            "mkdirat" => self.made(self.at(0)?, 2),
            "fsync" | "fdatasync" => one(self.open(0)?.map(|path| sync(path, image))),
            // It promises nothing of what it wrote.
            "sync_file_range" | "io_uring_setup" => self.unless("io_uring_setup"),
            "msync" => Err("a file is mapped".into()),
            "ioctl" => self.unless_cloned(),
            "mmap" => self.mapped(),
            "chmod" => self.moded(self.plain(0)?, 1),
            "fchmod" => self.moded(self.open(0)?, 1),
            "fchmodat" => self.moded(self.at(0)?, 2),
            "execve" => {
                let program = path(self.argument(0)?).ok_or("a path is not understood")?;
                one(self.below(&program).map(|path| Op::Mark(format!("started {}", path.display()))))
            }
            "connect" => {
                let reaches_out = self.argument(1)?.contains("AF_INET");
                one(reaches_out.then(|| Op::Mark(CONNECTS.to_owned())))
            }
            other => Err(format!("{other} was not asked for")),
        }
    }

    fn number(&self, n: usize) -> usize {
        self.argument(n).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn opened(&self, path: Option<PathBuf>, flags: usize, image: &Image) -> Result<Vec<Op>, String> {
        let Some(path) = path else { return self.asked(flags) };
        let has = |flag: &str| self.argument(flags).is_ok_and(|flags| flags.split('|').any(|one| one == flag));
        if has("O_TMPFILE") || has("O_DIRECT") {
            return Err("the model does not know this flag".into());
        }
        Ok(match image.node(&path) {
            None if has("O_CREAT") => {
                let mode = mode(self.argument(flags + 1)?).ok_or("a mode is not understood")?;
                vec![Op::Create { path, mode: mode & !0o022 }]
            }
            Some(_) if has("O_TRUNC") => vec![Op::Truncate { path, length: 0 }],
            _ => Vec::new(),
        })
    }

    /// A road's metadata is opened: the world sees which file the node is at.
    fn asked(&self, flags: usize) -> Result<Vec<Op>, String> {
        let directory = self.argument(0).ok().and_then(descriptor).unwrap_or_default();
        let path = directory.join(path(self.argument(flags - 1)?).ok_or("a path is not understood")?);
        let of_metadata = path.parent().is_some_and(|parent| parent.ends_with("metadata"));
        let name = path.file_name().unwrap_or_default();
        Ok(of_metadata.then(|| Op::Mark(format!("{ASKED}{}", name.display()))).into_iter().collect())
    }

    /// Whoever writes without an offset writes at the end: the agent never seeks back. Were that wrong, the end state would tell.
    fn written(&self, from: usize, at: Option<usize>) -> Result<Vec<Op>, String> {
        let count = usize::try_from(self.call.result).map_err(|e| e.to_string())?;
        if self.argument(0)?.starts_with("1<") {
            let said = bytes(self.argument(from)?).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
            if self.open(0)?.is_none() {
                let marks = said.lines().filter_map(|line| line.strip_prefix("MARK "));
                return Ok(marks.map(|mark| Op::Mark(mark.to_owned())).collect());
            }
        }
        let Some(path) = self.open(0)? else { return Ok(Vec::new()) };
        let mut bytes = bytes(self.argument(from)?).ok_or("its bytes were cut short; strace needs a larger -s")?;
        bytes.truncate(count);
        let offset = at.map(|at| self.number(at));
        Ok(if bytes.is_empty() { Vec::new() } else { vec![Op::Write { path, offset, bytes: bytes.into() }] })
    }

    fn made(&self, path: Option<PathBuf>, at: usize) -> Result<Vec<Op>, String> {
        let mode = mode(self.argument(at)?).ok_or("a mode is not understood")?;
        Ok(path.map(|path| Op::Mkdir { path, mode: mode & !0o022 }).into_iter().collect())
    }

    fn moded(&self, path: Option<PathBuf>, at: usize) -> Result<Vec<Op>, String> {
        let mode = mode(self.argument(at)?).ok_or("a mode is not understood")?;
        Ok(path.map(|path| Op::Chmod { path, mode }).into_iter().collect())
    }

    fn refuse(&self, n: usize) -> Result<Vec<Op>, String> {
        let known = self.call.arguments.get(n).and_then(|text| descriptor(text)).and_then(|path| self.below(&path));
        if known.is_some() { Err("the model does not know this call".into()) } else { Ok(Vec::new()) }
    }

    fn unless(&self, forbidden: &str) -> Result<Vec<Op>, String> {
        if self.call.name == forbidden { Err("the model does not know this call".into()) } else { Ok(Vec::new()) }
    }

    fn unless_cloned(&self) -> Result<Vec<Op>, String> {
        if self.argument(1)?.starts_with("FICLONE") { self.refuse(0) } else { Ok(Vec::new()) }
    }

    fn mapped(&self) -> Result<Vec<Op>, String> {
        let shared = self.argument(3)?.split('|').any(|flag| flag.starts_with("MAP_SHARED"));
        if shared && self.argument(2)?.contains("PROT_WRITE") { self.refuse(4) } else { Ok(Vec::new()) }
    }
}

fn renamed(from: Option<PathBuf>, to: Option<PathBuf>) -> Result<Vec<Op>, String> {
    match (from, to) {
        (Some(from), Some(to)) => Ok(vec![Op::Rename { from, to }]),
        (None, None) => Ok(Vec::new()),
        _ => Err("it crosses the border of the state directory".into()),
    }
}

fn sync(path: PathBuf, image: &Image) -> Op {
    let directory = image.find(&path).is_some_and(|inode| image.names(inode).is_some());
    if directory { Op::SyncDir { path } } else { Op::SyncFile { path } }
}
