//! The form of a script: blocks with a blank line between them. A block has comments (`#`), lines
//! that say what happens, `---`, and what comes out.

use crate::world::World;

/// Plays a script and gives it back with what really came out.
pub(crate) fn play(text: &str) -> String {
    let mut world = World::new();
    let blocks: Vec<String> =
        text.trim_end().split("\n\n").map(|it| block(&mut world, it)).collect();
    format!("{}\n", blocks.join("\n\n"))
}

fn block(world: &mut World, block: &str) -> String {
    let inputs: Vec<&str> = block.lines().take_while(|line| *line != "---").collect();
    if inputs.iter().all(|line| line.starts_with('#')) {
        return inputs.join("\n");
    }
    let mut lines: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    lines.push("---".into());
    for input in inputs.iter().filter(|line| !line.starts_with('#')) {
        world.play(input);
        lines.append(&mut world.shown);
    }
    lines.join("\n")
}

/// The first lines that differ.
pub(crate) fn difference(expected: &str, found: &str) -> String {
    let (mut left, mut right) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (None, None) => return "no line differs".into(),
            (one, two) if one == two => {}
            (one, two) => {
                let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return format!("line {number}\n  -{}\n  +{}", shown(one), shown(two));
            }
        }
    }
}
