//! Tiles: instructions that work row by row (softmax, reductions of rows, what is computed from their
//! results) run together, some rows at a time.

use rustorch_kernels::ops::Op;
use rustorch_kernels::reduce;

use super::dependencies::Dependencies;
use super::fuse::{self, iteration};
use super::reductions;
use crate::program::{BufferId, Instruction, Kernel, Operand, Place, Program};
use crate::tiled::{Local, Part, Tiled};

/// Elements of the widest instruction in a tile: with some of them the second-level cache is not full.
const TILE: usize = 32 * 1024;
/// Wider rows are not worth it.
const MAX_WIDTH: usize = 128 * 1024;
/// Below this many bytes, all is in the cache anyway.
const WORTH_BYTES: usize = 128 * 1024;
/// Longer rows may be reduced in parts by a kernel that sees all rows, and would not be by one of a tile.
const MAX_REDUCED: i64 = 8 * 1024;
/// How far apart instructions of a tile are: what lies between them runs before.
const NEAR: usize = 24;
const MAX_PARTS: usize = 12;

pub fn run(program: &mut Program) {
    let dependencies = Dependencies::of(program);
    let mut taken = vec![false; program.instructions.len()];
    let mut tiles = Vec::new();
    for seed in 0..program.instructions.len() {
        if taken[seed] {
            continue;
        }
        let Some(rows) = rows_of(&program.instructions[seed]) else { continue };
        let members = grow(program, &dependencies, &taken, seed, rows);
        let Some(tile) = tile(program, &dependencies, &members, rows) else { continue };
        members.iter().for_each(|&member| taken[member] = true);
        tiles.extend(members.last().map(|&last| (last, tile)));
    }
    for (last, tile) in tiles {
        program.instructions[last] = tile;
        taken[last] = false;
    }
    program.retain(|at| !taken[at]);
}

/// The instructions around `seed` that can be cut into these rows and that it is worth to run with it.
/// All of them move down to the last one, so nothing else in between may wait for one of them.
fn grow(program: &Program, dependencies: &Dependencies, taken: &[bool], seed: usize, rows: i64) -> Vec<usize> {
    let mut members = vec![seed];
    let fits = |at: usize| !taken[at] && cut(&program.instructions[at], rows).is_some();
    for at in seed + 1..program.instructions.len().min(seed + NEAR) {
        if dependencies.of[at].iter().any(|other| members.contains(other)) {
            if !fits(at) || members.len() == MAX_PARTS {
                break;
            }
            members.push(at);
        }
    }
    let last = members.last().copied().unwrap_or(seed);
    for at in (seed.saturating_sub(NEAR)..seed).rev() {
        let mut users = (at + 1..=last).filter(|&user| dependencies.of[user].contains(&at)).peekable();
        if users.peek().is_some() && users.all(|user| members.contains(&user)) && members.len() < MAX_PARTS && fits(at)
        {
            members.insert(0, at);
        }
    }
    members
}

/// The instruction that runs the members, where that saves something.
fn tile(program: &Program, dependencies: &Dependencies, members: &[usize], rows: i64) -> Option<Instruction> {
    let needs_reduction = |at: usize| {
        dependencies.of[at].iter().any(|other| members.contains(other) && is_reduction(&program.instructions[*other]))
    };
    let has_softmax = members.iter().any(|&at| softmax_operands(&program.instructions[at]).is_some());
    // A reduction of what is computed is better off without a tile (see `reductions`).
    if members.len() < 2 || !(has_softmax || members.iter().any(|&at| needs_reduction(at))) {
        return None;
    }
    let parts: Vec<Part> =
        members.iter().map(|&at| cut(&program.instructions[at], rows)).collect::<Option<Vec<Part>>>()?;
    let parts = joined(program, members, parts);
    let width = parts.iter().map(|part| part.width).max()?;
    let bytes = parts.iter().flat_map(|part| &part.instruction.operands).map(|operand| operand.range().len()).max()?;
    if width > MAX_WIDTH || bytes < WORTH_BYTES {
        return None;
    }
    let tile = (TILE / width).max(1);
    let mut locals: Vec<Local> = Vec::new();
    let mut scratch_bytes = 0;
    for buffer in written(&parts) {
        let slot = slot(&parts, buffer, rows)?;
        let is_local = matches!(program.buffers[buffer].place, Place::Arena(_))
            && program.instructions.iter().enumerate().all(|(at, instruction)| {
                members.contains(&at) || instruction.operands.iter().all(|operand| operand.buffer != Some(buffer))
            });
        if is_local {
            locals.push(Local { buffer, scratch: scratch_bytes, offset: slot.start, step: slot.len() });
            // Apart by more than a line, so that equal sizes do not compete for cache sets.
            scratch_bytes += (tile * slot.len()).next_multiple_of(64) + 192;
        }
    }
    let is_local = |operand: &&Operand| locals.iter().any(|local| Some(local.buffer) == operand.buffer);
    let collect = |operands: fn(&Instruction) -> &[Operand]| -> Vec<Operand> {
        let mut list: Vec<Operand> = Vec::new();
        for operand in parts.iter().flat_map(|part| operands(&part.instruction)) {
            if operand.buffer.is_some() && !is_local(&operand) && !list.contains(operand) {
                list.push(operand.clone());
            }
        }
        list
    };
    let (stored, loaded) = (collect(Instruction::written), collect(Instruction::read));
    let outputs = stored.len();
    let origin = parts.last()?.instruction.origin;
    let tiled = Tiled { rows: rows as usize, tile, parts, locals, scratch_bytes, outputs };
    Some(Instruction {
        kernel: Kernel::Tiled(Box::new(tiled)),
        operands: [stored, loaded].concat(),
        ints: Vec::new(),
        floats: Vec::new(),
        origin,
    })
}

/// The parts, with reductions that compute what nothing else reads.
fn joined(program: &Program, members: &[usize], mut parts: Vec<Part>) -> Vec<Part> {
    let mut at = 0;
    while at < parts.len() {
        let Some(producer) = producer_for(program, members, &parts, at) else {
            at += 1;
            continue;
        };
        let width = parts[at].width;
        match reductions::join(&parts[producer].instruction, &parts[at].instruction, false) {
            Some(instruction) => {
                parts[at] = Part { instruction, width };
                parts.remove(producer);
            }
            None => at += 1,
        }
    }
    parts
}

/// The part that makes what the reduction at `at` reads, if nothing else reads it and no part in between has to do
/// with what it reads or writes.
fn producer_for(program: &Program, members: &[usize], parts: &[Part], at: usize) -> Option<usize> {
    let buffer = reductions::reduced_input(&parts[at].instruction)?.buffer?;
    let touches = |instruction: &Instruction| instruction.operands.iter().any(|operand| operand.buffer == Some(buffer));
    let users: Vec<usize> = (0..parts.len()).filter(|&part| touches(&parts[part].instruction)).collect();
    let &[producer, _] = users.as_slice() else { return None };
    let is_outside = |other: &usize| !members.contains(other) && touches(&program.instructions[*other]);
    let is_apart = |part: &Part| {
        let mine = &parts[producer].instruction.operands;
        part.instruction.written().iter().all(|written| mine.iter().all(|operand| operand.buffer != written.buffer))
    };
    let is_local = matches!(program.buffers[buffer].place, Place::Arena(_));
    (is_local
        && producer < at
        && parts[producer].instruction.written().len() == 1
        && parts[producer + 1..at].iter().all(is_apart)
        && !(0..program.instructions.len()).any(|other| is_outside(&other)))
    .then_some(producer)
}

/// The buffers that parts write, each once.
fn written(parts: &[Part]) -> Vec<BufferId> {
    let mut written: Vec<BufferId> =
        parts.iter().flat_map(|part| part.instruction.written()).filter_map(|operand| operand.buffer).collect();
    written.sort_unstable();
    written.dedup();
    written
}

/// The bytes of a buffer that belong to its first row, the same for all parts; the next row's follow them.
/// None where a part would reach another's rows.
fn slot(parts: &[Part], buffer: BufferId, rows: i64) -> Option<std::ops::Range<usize>> {
    let mut slot: Option<(std::ops::Range<usize>, usize)> = None;
    for part in parts {
        for operand in part.instruction.operands.iter().filter(|operand| operand.buffer == Some(buffer)) {
            let (row, step) = first_row(operand, rows)?;
            let (reach, known) = slot.get_or_insert((row.clone(), step));
            if *known != step {
                return None;
            }
            *reach = reach.start.min(row.start)..reach.end.max(row.end);
        }
    }
    let (reach, step) = slot?;
    (reach.len() <= step).then_some(reach.start..reach.start + step)
}

/// The bytes of an operand's first row, and from row to row. The operand's first dimensions are the rows.
fn first_row(operand: &Operand, rows: i64) -> Option<(std::ops::Range<usize>, usize)> {
    let merged = merged(operand, rows)?;
    let step = *merged.strides.first()? as usize * operand.dtype.size();
    let row = Operand::extent(merged.offset, merged.dtype, &merged.sizes[1..], &merged.strides[1..])?;
    Some((row, step))
}

/// The operand with its first dimensions merged to one of this size.
fn merged(operand: &Operand, rows: i64) -> Option<Operand> {
    let (mut count, mut stride, mut at) = (1, None, 0);
    while count < rows {
        let (size, next) = (*operand.sizes.get(at)?, operand.strides[at]);
        if size != 1 {
            // The dimension so far goes on where this one ends.
            if stride.is_some_and(|stride| stride != next * size) {
                return None;
            }
            stride = Some(next);
        }
        count *= size;
        at += 1;
    }
    let with = |first: i64, rest: &[i64]| std::iter::once(first).chain(rest.iter().copied()).collect();
    let (sizes, strides) = (with(rows, &operand.sizes[at..]), with(stride?, &operand.strides[at..]));
    (count == rows).then(|| Operand { sizes, strides, ..operand.clone() })
}

/// The operands of a softmax, or of its gradient, along the last dimension.
fn softmax_operands(instruction: &Instruction) -> Option<&[Operand]> {
    let Kernel::Row(row) = instruction.kernel else { return None };
    let operands = instruction.operands.as_slice();
    let is_last = instruction.ints.first().is_some_and(|&dim| dim + 1 == operands[0].sizes.len() as i64);
    (is_last && (row.is(Op::softmax) || row.is(Op::softmax_backward))).then_some(operands)
}

fn is_reduction(instruction: &Instruction) -> bool {
    matches!(instruction.kernel, Kernel::Row(row) if reduce::row(row.name).is_some())
}

/// The rows that an instruction reduces each to one element, or takes the softmax of.
fn rows_of(instruction: &Instruction) -> Option<i64> {
    let input = instruction.operands.last()?;
    let kept = if softmax_operands(instruction).is_some() {
        input.sizes.len() - 1
    } else if is_reduction(instruction) {
        let output = instruction.operands.iter().find(|operand| operand.present)?;
        let kept = input.sizes.iter().zip(&output.sizes).take_while(|(a, b)| a == b).count();
        let rest = || input.sizes[kept..].iter().copied();
        let is_whole = output.sizes[kept..].iter().all(|&size| size == 1);
        if !is_whole || rest().product::<i64>() >= MAX_REDUCED || input.strides.last() != Some(&1) {
            return None;
        }
        kept
    } else {
        return None;
    };
    let rows = input.sizes[..kept].iter().product();
    (rows > 1).then_some(rows)
}

/// The instruction over rows, if it works on each by itself.
fn cut(instruction: &Instruction, rows: i64) -> Option<Part> {
    if rows_of(instruction) == Some(rows) {
        let merge = |operand: &Operand| if operand.present { merged(operand, rows) } else { Some(operand.clone()) };
        let operands: Vec<Operand> = instruction.operands.iter().map(merge).collect::<Option<_>>()?;
        let input = operands.last()?;
        // Rows that are one row repeated are reduced in another order.
        if input.strides[0] == 0 {
            return None;
        }
        let width = input.numel() / rows as usize;
        let mut ints = instruction.ints.clone();
        if softmax_operands(instruction).is_some() {
            ints[0] = 1;
        }
        return Some(Part { instruction: Instruction { operands, ints, ..instruction.clone() }, width });
    }
    let mut instruction = match instruction.kernel {
        Kernel::Fused(_) => instruction.clone(),
        _ => fuse::alone(instruction)?,
    };
    let numel = instruction.operands.first()?.numel() as i64;
    if numel % rows != 0 {
        return None;
    }
    let wanted = [rows, numel / rows];
    for operand in &mut instruction.operands {
        let sizes = iteration::refine(&operand.sizes, &wanted)?;
        let strides = iteration::expand(&operand.sizes, &operand.strides, &sizes);
        *operand = merged(&Operand { sizes: sizes.into(), strides: strides.into(), ..operand.clone() }, rows)?;
    }
    if let Kernel::Fused(fused) = &mut instruction.kernel {
        fused.prepare(&instruction.operands).ok()?;
    }
    Some(Part { instruction, width: wanted[1] as usize })
}
