//! `amrita immortal debug`: time travel. Feeds what was recorded to a program that a person has
//! started, under a debugger perhaps, and compares what it says.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use immortals::recording::{Part, Recorded as Entries, Recording, read_magic, read_part};
use immortals::{Adapter, Difference, Event, NativeAdapter, Next, Reference, Replay, Wanted};

use super::connection::{Connection, Place};
use super::options::DebugOptions;
use super::record::record_to;
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::Trouble;
use crate::screen::{say, size};

/// A program of AMBROSIA's does not say when it is done: after so much silence it is.
const QUIET: Duration = Duration::from_secs(1);

/// At most this many differences are shown.
const DIFFERENCES_SHOWN: usize = 20;

pub(super) async fn debug(cluster: &Cluster, options: &DebugOptions) -> Outcome {
    let name = match &options.recording {
        Some(file) if !options.named.is_given() => Source::open(file)?.head.name,
        _ => options.named.name().map_err(Trouble::usage)?,
    };
    if cluster.json {
        let why = "--json does not go with debug, which is told to people as it goes on; its exit \
                   code is 1 when the program differs";
        return Err(Trouble::usage(why));
    }
    let own = std::env::temp_dir().join(format!("amrita-debug-{}", std::process::id()));
    let made = options.recording.is_none();
    let file = match &options.recording {
        Some(file) => file.clone(),
        None => {
            record_to(cluster, &name, &options.from, &own).await?;
            own
        }
    };
    let outcome = replay(&name, options, &file);
    if made {
        drop(std::fs::remove_file(&file));
    }
    outcome
}

fn replay(name: &str, options: &DebugOptions, file: &Path) -> Outcome {
    let head = Source::open(file)?.head;
    if head.name != name {
        return Err(format!(
            "{} is a recording of '{}', not of '{name}'",
            file.display(),
            head.name
        )
        .into());
    }
    let base = &head.base.input_state;
    if options.until.is_some_and(|until| until <= base.inputs) {
        return Err(Trouble::usage(format!(
            "--until {}: the checkpoint stands at input {} already; a later input, or an earlier \
             checkpoint, is needed",
            options.until.unwrap_or_default(),
            base.inputs
        )));
    }
    say(&format!(
        "From the checkpoint of '{name}' at input {} (program version {}, {}), taken on {}; {} \
         inputs were logged then.",
        base.inputs,
        base.program_version,
        size(head.base.blob.map_or(0, |blob| blob.bytes)),
        head.node,
        head.inputs
    ));
    let place =
        Place::open(options.socket.as_deref(), options.ports.checked().map_err(Trouble::usage)?)?;
    say(&format!("Waiting for the program {}.", place.how_to_connect()));
    let first = one_run(options, file, &place, None)?;
    let how = place.how_to_connect();
    let report = match first {
        Run { reference: Some(Said::ByTheOld(said)), .. } => {
            say(&format!("\nThat was the program as it is. Now start the new one {how}."));
            one_run(options, file, &place, Some(Said::ByTheOld(said)))?
        }
        // A checksum shows only that something differs from there on.
        Run { reference: Some(said), differences, .. } if differences > 0 && !options.alone => {
            say(&format!(
                "\nThat was the new program. Now start it as it is {how}, to see every difference \
                 (--alone: without that)."
            ));
            one_run(options, file, &place, Some(said))?
        }
        only => only,
    };
    report.verdict(name)
}

/// What one of two programs has said, for the other one to be compared with.
enum Said {
    ByTheOld(Reference),
    ByTheNew(Reference),
}

/// What came of one program.
struct Run {
    from: u64,
    to: u64,
    compared: u64,
    differences: usize,
    /// What it has said, if another one comes next.
    reference: Option<Said>,
}

impl Run {
    fn verdict(&self, name: &str) -> Outcome {
        let Self { from, to, compared, differences, .. } = self;
        if *differences > 0 {
            return Err(format!(
                "the program has said something else than is recorded, {differences} times, in \
                 inputs {} to {to} of '{name}'",
                from + 1
            )
            .into());
        }
        say(&format!(
            "Inputs {} to {to} of '{name}': the program has said what is recorded, compared at \
             {compared} points.",
            from + 1
        ));
        Ok(())
    }
}

fn one_run(
    options: &DebugOptions,
    file: &Path,
    place: &Place,
    against: Option<Said>,
) -> Result<Run, String> {
    let mut source = Source::open(file)?;
    let wanted = Wanted { until: options.until, test_upgrade: options.test_upgrade };
    let door = door(options, &source.head, place);
    let confirms = door.confirms();
    let may_be_reference = options.test_upgrade && against.is_none() && confirms;
    let (against, names) = match against {
        None => (None, None),
        Some(Said::ByTheOld(said)) => (Some(said), Some(("it has said", AS_IT_IS))),
        Some(Said::ByTheNew(said)) => (Some(said), Some((AS_IT_IS, "the new one has said"))),
    };
    let must_be_the_old = names.is_some_and(|(first, _)| first == AS_IT_IS);
    let mut replay = Replay::new(source.head.clone(), wanted, door, against);
    if may_be_reference {
        replay = replay.keeping_all();
    }
    let mut connection = place.accept()?;
    // A program of AMBROSIA's says nothing at first: the door does.
    replay.hear(&Bytes::new())?;
    let mut teller = Teller { differences: 0, names };
    let fed = feed(&mut replay, &mut source, &mut connection, &mut teller);
    if let Err(why) = fed {
        replay.say_error("STOPPING", &why);
        connection.send_last(replay.take_out());
        return Err(why);
    }
    if !confirms {
        hear_the_rest(&mut replay, &mut connection, &mut teller)?;
    }
    let is_old = replay.is_as_recorded();
    let is_reference = may_be_reference && (is_old || teller.differences > 0 && !options.alone);
    if options.hold && !is_reference {
        say("The program is held at this point; end it, or this command, when you have seen \
             enough.");
        while connection.hear(QUIET)?.is_some() {}
    }
    if must_be_the_old && !is_old {
        return Err("that was not the program as it is, but another new one".into());
    }
    // A program of ours that is told this ends, and does not connect again.
    replay.say_error("DETACHED", "the replay has ended");
    connection.send_last(replay.take_out());
    Ok(Run {
        from: source.head.base.input_state.inputs,
        to: replay.told(),
        compared: replay.compared(),
        differences: teller.differences,
        reference: is_reference.then(|| match is_old {
            true => Said::ByTheOld(replay.reference()),
            false => Said::ByTheNew(replay.reference()),
        }),
    })
}

fn door(options: &DebugOptions, head: &Recording, place: &Place) -> Adapter {
    if !place.is_ambrosias() {
        return Adapter::Native(NativeAdapter::default());
    }
    let version = head.base.input_state.program_version;
    let door = AmbrosiaAdapter::new(AmbrosiaOptions {
        instance: head.name.clone(),
        active_active: options.active_active,
        committer_id: i32::try_from(head.group.0).unwrap_or(1),
        program_version: version,
        upgrade_to: options.upgrade_version.unwrap_or(version),
    });
    Adapter::Ambrosia(Box::new(if options.test_upgrade { door.test_upgrade() } else { door }))
}

fn feed(
    replay: &mut Replay,
    source: &mut Source,
    connection: &mut Connection,
    teller: &mut Teller,
) -> Result<(), String> {
    loop {
        let next = replay.step()?;
        teller.tell(replay);
        let has_spoken = connection.send(replay.take_out(), |bytes| replay.hear(&bytes))?;
        match next {
            // What it has said may be what was waited for.
            Next::Hear if has_spoken => {}
            Next::Chunk(number) => replay.give_chunk(source.chunk(number)?),
            Next::Entries(_) => replay.give_entries(source.entries()?)?,
            Next::Hear => match connection.hear(Duration::MAX)? {
                Some(bytes) => replay.hear(&bytes)?,
                None => return Err(ended_at(replay)),
            },
            Next::Over => return Ok(()),
        }
    }
}

fn ended_at(replay: &Replay) -> String {
    format!("the program has closed the connection; it had been told up to input {}", replay.told())
}

/// What a program still says that does not say when it is done.
fn hear_the_rest(
    replay: &mut Replay,
    connection: &mut Connection,
    teller: &mut Teller,
) -> Result<(), String> {
    let mut heard = Instant::now();
    while heard.elapsed() < QUIET {
        if let Some(bytes) = connection.hear(QUIET / 10)? {
            if bytes.is_empty() {
                continue;
            }
            replay.hear(&bytes)?;
            teller.tell(replay);
            heard = Instant::now();
        }
    }
    Ok(())
}

const AS_IT_IS: &str = "the program as it is has said";

/// Tells people what happens.
struct Teller {
    differences: usize,
    /// Who is compared: the one that is attached, and the one before it. None: with what is
    /// recorded.
    names: Option<(&'static str, &'static str)>,
}

impl Teller {
    fn tell(&mut self, replay: &mut Replay) {
        for event in std::mem::take(&mut replay.events) {
            match event {
                Event::Attached(hello) => say(&format!(
                    "A program is attached: version {}, {}.",
                    hello.program_version,
                    if hello.upgrade_to == hello.program_version {
                        "no upgrade".to_owned()
                    } else {
                        format!("upgrade to {}", hello.upgrade_to)
                    }
                )),
                Event::Loaded { input, bytes } => {
                    say(&format!("It was given the state after input {input}: {}.", size(bytes)));
                }
                Event::Upgraded { version } => {
                    say(&format!("It is told to upgrade to version {version}."));
                }
                Event::EndOfReplay { input } => {
                    say(&format!("End of the replay: it has handled input {input}."));
                }
                Event::Differs(difference) => self.differs(&difference),
            }
        }
    }

    fn differs(&mut self, difference: &Difference) {
        self.differences += 1;
        if self.differences > DIFFERENCES_SHOWN {
            return;
        }
        let Difference { after, input, said, expected } = difference;
        say(&format!("\nIt DIFFERS at input {input} (up to input {after} nothing was found)."));
        let list = |what: &str, all: &[String]| {
            say(&format!("  {what}:"));
            if all.is_empty() {
                say("    nothing");
            }
            for one in all {
                say(&format!("    {one}"));
            }
        };
        match self.names {
            None => {
                list("it has said", said);
                say(
                    "  what is recorded is a checksum of something else; all after it differs, too",
                );
            }
            // The new one first.
            Some((AS_IT_IS, other)) => {
                list(other, expected);
                list(AS_IT_IS, said);
            }
            Some((this, other)) => {
                list(this, said);
                list(other, expected);
            }
        }
    }
}

/// A recording in a file, read once from its beginning to its end.
struct Source {
    file: BufReader<File>,
    path: PathBuf,
    head: Recording,
    chunks: u32,
    ready: VecDeque<Part>,
}

impl Source {
    fn open(path: &Path) -> Result<Self, String> {
        let failed = |why: &str| format!("{}: {why}", path.display());
        let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
        let mut file = BufReader::new(file);
        read_magic(&mut file).map_err(|why| failed(&why))?;
        let Part::Head(head) = read_part(&mut file).map_err(|why| failed(&why))? else {
            return Err(failed("the recording is damaged: it has no head"));
        };
        Ok(Self { file, path: path.to_owned(), head: *head, chunks: 0, ready: VecDeque::new() })
    }

    fn part(&mut self) -> Result<Part, String> {
        if let Some(part) = self.ready.pop_front() {
            return Ok(part);
        }
        read_part(&mut self.file).map_err(|why| format!("{}: {why}", self.path.display()))
    }

    fn chunk(&mut self, number: u32) -> Result<Bytes, String> {
        assert_eq!(number, self.chunks, "pieces are asked for in their order");
        self.chunks += 1;
        match self.part()? {
            Part::Chunk(chunk) => Ok(chunk),
            _ => Err(format!("{}: a piece of the checkpoint is missing", self.path.display())),
        }
    }

    /// The next page; nothing at the end.
    fn entries(&mut self) -> Result<Vec<Entries>, String> {
        match self.part()? {
            Part::Entries(entries) => Ok(entries),
            Part::End => {
                self.ready.push_back(Part::End);
                Ok(Vec::new())
            }
            _ => Err(format!("{}: a page of the log is missing", self.path.display())),
        }
    }
}
