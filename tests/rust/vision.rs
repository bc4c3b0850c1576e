//! Boxes, regions and deformed convolutions against plain loops in f64, and gradients against what they are the
//! transpose or the slope of.

mod support;

use rustorch_kernels::error::Kind;
use rustorch_kernels::ops::Op;
use support::{Item, Tensor, assert_close, at_every_level, layouts, noise, run};

fn made(sizes: &[i64], seed: u64) -> Tensor<f64> {
    Tensor::new(sizes, noise(seed))
}

fn narrow(tensor: &Tensor<f64>) -> Tensor<f32> {
    let values = tensor.values();
    Tensor::new(&tensor.sizes, |at| values[at] as f32)
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    a.values().iter().zip(b.values()).map(|(a, b)| a * b).sum()
}

/// Boxes of 0 to 12 pixels; the last ones are odd.
fn boxes(count: usize) -> Vec<[f64; 4]> {
    let mut draw = noise(5);
    let mut number = |at: usize| 6.0 * (draw(at) + 1.0);
    (0..count)
        .map(|at| {
            let [a, b, c, d] = std::array::from_fn(|side| number(4 * at + side));
            [a.min(c), b.min(d), a.max(c), b.max(d)]
        })
        .collect()
}

/// Regions of images in turn, among them some outside, empty and turned round.
fn rois(count: usize, images: usize) -> Tensor<f64> {
    let mut corners = boxes(count);
    let odd = [[-30.0, -30.0, -20.0, -20.0], [9.0, 8.0, 40.0, 60.0], [-3.0, 2.0, 4.0, 9.0], [5.0; 4], [1e4; 4]];
    corners[..odd.len()].copy_from_slice(&odd);
    let rows: Vec<f64> =
        corners.iter().enumerate().flat_map(|(at, b)| [(at % images) as f64, b[0], b[1], b[2], b[3]]).collect();
    Tensor::new(&[count as i64, 5], |at| rows[at])
}

#[test]
fn the_best_boxes_are_kept() {
    fn check<T: Item>(cast: fn(f64) -> T, wide: fn(T) -> f64) {
        for count in [0, 1, 61, 4099] {
            let rows = boxes(count);
            let flat = Tensor::new(&[count as i64, 4], |at| cast(rows[at / 4][at % 4]));
            let sides = flat.values();
            let side = |place: usize, side: usize| wide(sides[4 * place + side]);
            let order: Vec<usize> = (0..count).map(|at| (at * 7919) % count.max(1)).collect();
            let area = |b: usize| (side(b, 2) - side(b, 0)) * (side(b, 3) - side(b, 1));
            let mut expected: Vec<i64> = Vec::new();
            for &place in &order {
                let hides = |&other: &i64| {
                    let other = other as usize;
                    let span = |dim: usize| {
                        side(place, dim + 2).min(side(other, dim + 2)) - side(place, dim).max(side(other, dim))
                    };
                    let shared = span(0).max(0.0) * span(1).max(0.0);
                    shared / (area(place) + area(other) - shared) > 0.43
                };
                if !expected.iter().any(hides) {
                    expected.push(place as i64);
                }
            }
            let order = Tensor::new(&[count as i64], |at| order[at] as i64);
            for (flat, order) in layouts(&flat).iter().zip(layouts(&order)) {
                let (keep, kept) = (Tensor::<i64>::zeros(&[count as i64]), Tensor::<i64>::zeros(&[1]));
                let views = [keep.view(), kept.view(), flat.view(), order.view()];
                run(Op::nms, &views, &[], &[0.43]).unwrap();
                assert_eq!(keep.values()[..kept.values()[0] as usize], expected);
            }
        }
    }
    at_every_level(|_| {
        check::<f64>(|x| x, |x| x);
        check::<f32>(|x| x as f32, f64::from);
    });
    let (keep, kept, flat) = (Tensor::<i64>::zeros(&[2]), Tensor::<i64>::zeros(&[1]), made(&[2, 4], 1));
    for place in [2i64, -1] {
        let order = Tensor::new(&[2], |_| place);
        let refused = run(Op::nms, &[keep.view(), kept.view(), flat.view(), order.view()], &[], &[0.5]).unwrap_err();
        assert_eq!(refused.kind(), Kind::Index);
    }
}

/// Between the pixels of a plane, as torchvision's samples are.
fn sampled(plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
    if !(-1.0..=height as f64).contains(&y) || !(-1.0..=width as f64).contains(&x) {
        return 0.0;
    }
    let along = |place: f64, size: usize| {
        let place = place.clamp(0.0, size as f64 - 1.0);
        (place.floor() as usize, (place.floor() as usize + 1).min(size - 1), place.fract())
    };
    let ((top, bottom, down), (left, right, across)) = (along(y, height), along(x, width));
    let row = |row: usize| plane[row * width + left] * (1.0 - across) + plane[row * width + right] * across;
    row(top) * (1.0 - down) + row(bottom) * down
}

const SIZE: [usize; 2] = [11, 7];
const CHANNELS: usize = 12;
const BINS: [usize; 2] = [2, 3];

/// A region's mean over its samples, of `channel(bin)`.
fn aligned(input: &[f64], roi: &[f64], ints: [i64; 2], scale: f64, bin: [usize; 2], channel: usize) -> f64 {
    let shift = if ints[1] == 1 { 0.5 } else { 0.0 };
    let plane = &input[((roi[0] as usize) * CHANNELS + channel) * SIZE[0] * SIZE[1]..];
    let along = |dim: usize| {
        let (start, end) = (roi[2 - dim] * scale - shift, roi[4 - dim] * scale - shift);
        let length = if ints[1] == 1 { end - start } else { (end - start).max(1.0) };
        let step = length / BINS[dim] as f64;
        let count = if ints[0] > 0 { ints[0] } else { step.ceil() as i64 };
        let place = move |at: i64| start + (bin[dim] as f64 + (at as f64 + 0.5) / count as f64) * step;
        (0..count).map(place).collect::<Vec<f64>>()
    };
    let (rows, columns) = (along(0), along(1));
    let sum: f64 = rows.iter().flat_map(|&y| columns.iter().map(move |&x| sampled(plane, SIZE, y, x))).sum();
    sum / (rows.len() * columns.len()).max(1) as f64
}

fn bins_of(region: usize, channels: usize) -> impl Iterator<Item = (usize, usize, [usize; 2])> {
    (0..channels).flat_map(move |channel| {
        (0..BINS[0]).flat_map(move |row| (0..BINS[1]).map(move |column| (region, channel, [row, column])))
    })
}

#[test]
fn regions_are_averaged_over_samples() {
    let input = made(&[2, CHANNELS as i64, SIZE[0] as i64, SIZE[1] as i64], 1);
    let (rois, own) = (rois(9, 2), CHANNELS / (BINS[0] * BINS[1]));
    let (numbers, values) = (rois.values(), input.values());
    let roi = |region: usize| &numbers[5 * region..][..5];
    let shape = |channels: usize| [9, channels as i64, BINS[0] as i64, BINS[1] as i64];
    at_every_level(|_| {
        for ints in [[0, 0], [2, 0], [2, 1], [-1, 1]] {
            let all: Vec<f64> = (0..9)
                .flat_map(|region| bins_of(region, CHANNELS))
                .map(|(region, channel, bin)| aligned(&values, roi(region), ints, 0.7, bin, channel))
                .collect();
            for (input, rois) in layouts(&input).iter().zip(layouts(&rois)) {
                let out = Tensor::<f64>::zeros(&shape(CHANNELS)).scattered(2);
                run(Op::roi_align, &[out.view(), input.view(), rois.view()], &ints, &[0.7]).unwrap();
                assert_close(&out.values(), &all, 1e-12, 1e-12);
                let single = Tensor::<f32>::zeros(&shape(CHANNELS));
                let (input, rois) = (narrow(input), narrow(&rois));
                let views = [single.view(), input.view(), rois.view()];
                run(Op::roi_align, &views, &[ints[0].max(2), ints[1]], &[0.7]).unwrap();
                if ints[0] > 0 {
                    let single: Vec<f64> = single.values().into_iter().map(f64::from).collect();
                    assert_close(&single, &all, 1e-4, 1e-4);
                }
            }
        }
        let expected: Vec<f64> = (0..9)
            .flat_map(|region| bins_of(region, own))
            .map(|(region, channel, bin)| {
                let channel = (channel * BINS[0] + bin[0]) * BINS[1] + bin[1];
                aligned(&values, roi(region), [2, 1], 0.7, bin, channel)
            })
            .collect();
        let (out, mapping) = (Tensor::<f64>::zeros(&shape(own)), Tensor::<i32>::zeros(&shape(own)).scattered(2));
        run(Op::ps_roi_align, &[out.view(), mapping.view(), input.view(), rois.view()], &[2], &[0.7]).unwrap();
        assert_close(&out.values(), &expected, 1e-12, 1e-12);
        let order: Vec<i32> = (0..9).flat_map(|_| 0..CHANNELS as i32).collect();
        assert_eq!(mapping.values(), order);
    });
}

#[test]
fn gradients_of_regions_are_transposed() {
    let input = made(&[2, CHANNELS as i64, SIZE[0] as i64, SIZE[1] as i64], 1);
    let (rois, own) = (rois(9, 2), (CHANNELS / (BINS[0] * BINS[1])) as i64);
    let shape = |channels: i64| [9, channels, BINS[0] as i64, BINS[1] as i64];
    at_every_level(|_| {
        for scattered in [false, true] {
            let place = |tensor: &Tensor<f64>| if scattered { tensor.scattered(2) } else { tensor.clone() };
            let (input, rois) = (place(&input), place(&rois));
            for ints in [[0, 0], [3, 1]] {
                let grad = place(&made(&shape(CHANNELS as i64), 2));
                let (out, grad_input) = (place(&Tensor::zeros(&grad.sizes)), place(&made(&input.sizes, 3)));
                run(Op::roi_align, &[out.view(), input.view(), rois.view()], &ints, &[0.7]).unwrap();
                run(Op::roi_align_backward, &[grad_input.view(), grad.view(), rois.view()], &ints, &[0.7]).unwrap();
                assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_input)], 1e-10, 1e-12);
            }
            let grad = place(&made(&shape(own), 2));
            let (out, grad_input) = (place(&Tensor::zeros(&grad.sizes)), place(&made(&input.sizes, 3)));
            let mapping = Tensor::<i32>::zeros(&grad.sizes);
            run(Op::ps_roi_align, &[out.view(), mapping.view(), input.view(), rois.view()], &[2], &[0.7]).unwrap();
            let views = [grad_input.view(), grad.view(), rois.view(), mapping.view()];
            run(Op::ps_roi_align_backward, &views, &[2], &[0.7]).unwrap();
            assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_input)], 1e-10, 1e-12);

            // The largest is linear while the places stay.
            let grad = place(&made(&shape(CHANNELS as i64), 2));
            let (out, grad_input) = (place(&Tensor::zeros(&grad.sizes)), place(&made(&input.sizes, 3)));
            let argmax = Tensor::<i32>::zeros(&grad.sizes);
            run(Op::roi_pool, &[out.view(), argmax.view(), input.view(), rois.view()], &[], &[0.7]).unwrap();
            let views = [grad_input.view(), grad.view(), rois.view(), argmax.view()];
            run(Op::roi_pool_backward, &views, &[], &[0.7]).unwrap();
            assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_input)], 1e-10, 1e-12);

            // The mean's gradient also has the last row and column, which the mean leaves out: here no region has.
            let inner = Tensor::new(&[9, 5], |at| [at as f64 / 5.0 % 2.0, 1.0, 2.0, 5.0, 8.0][at % 5].floor());
            let grad = place(&made(&shape(own), 2));
            let (out, grad_input) = (place(&Tensor::zeros(&grad.sizes)), place(&made(&input.sizes, 3)));
            run(Op::ps_roi_pool, &[out.view(), mapping.view(), input.view(), inner.view()], &[], &[1.0]).unwrap();
            let views = [grad_input.view(), grad.view(), inner.view(), mapping.view()];
            run(Op::ps_roi_pool_backward, &views, &[], &[1.0]).unwrap();
            assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_input)], 1e-10, 1e-12);
        }
    });
}

#[test]
fn regions_are_pooled_over_pixels() {
    let input = made(&[2, CHANNELS as i64, SIZE[0] as i64, SIZE[1] as i64], 1);
    let (rois, values) = (rois(9, 2), input.values());
    let numbers = rois.values();
    // The pixels of a bin; the mean's regions end before their last corner, and images before their last pixel.
    let pixels = |region: usize, bin: [usize; 2], within: i64, left_out: i64| -> Vec<usize> {
        let roi = &numbers[5 * region..][..5];
        let along = |dim: usize| {
            let [start, end] = [roi[2 - dim], roi[4 - dim]].map(|corner| (corner * 0.7).round() as i64);
            let step = (end - start + within).max(1) as f64 / BINS[dim] as f64;
            let clip = |pixel: f64| (pixel as i64 + start).clamp(0, SIZE[dim] as i64 - left_out);
            clip((bin[dim] as f64 * step).floor())..clip(((bin[dim] + 1) as f64 * step).ceil())
        };
        along(0).flat_map(|y| along(1).map(move |x| y as usize * SIZE[1] + x as usize)).collect()
    };
    let plane = |region: usize, channel: usize| (region % 2 * CHANNELS + channel) * SIZE[0] * SIZE[1];
    at_every_level(|_| {
        let (mut largest, mut places) = (Vec::new(), Vec::new());
        for (region, channel, bin) in (0..9).flat_map(|region| bins_of(region, CHANNELS)) {
            let value = |pixel: usize| values[plane(region, channel) + pixel];
            let best = pixels(region, bin, 1, 0).into_iter().max_by(|&a, &b| value(a).total_cmp(&value(b)));
            largest.push(best.map_or(0.0, value));
            places.push(best.map_or(-1, |pixel| pixel as i32));
        }
        let shape = [9, CHANNELS as i64, BINS[0] as i64, BINS[1] as i64];
        for (input, rois) in layouts(&input).iter().zip(layouts(&rois)) {
            let (out, argmax) = (Tensor::<f64>::zeros(&shape).scattered(1), Tensor::<i32>::zeros(&shape));
            run(Op::roi_pool, &[out.view(), argmax.view(), input.view(), rois.view()], &[], &[0.7]).unwrap();
            assert_eq!((out.values(), argmax.values()), (largest.clone(), places.clone()));
        }
        let own = CHANNELS / (BINS[0] * BINS[1]);
        let mut means = Vec::new();
        for (region, channel, bin) in (0..9).flat_map(|region| bins_of(region, own)) {
            let channel = (channel * BINS[0] + bin[0]) * BINS[1] + bin[1];
            let pixels = pixels(region, bin, 0, 1);
            let sum: f64 = pixels.iter().map(|&pixel| values[plane(region, channel) + pixel]).sum();
            means.push(sum / pixels.len().max(1) as f64);
        }
        let shape = [9, own as i64, BINS[0] as i64, BINS[1] as i64];
        let (out, mapping) = (Tensor::<f64>::zeros(&shape), Tensor::<i32>::zeros(&shape));
        run(Op::ps_roi_pool, &[out.view(), mapping.view(), input.view(), rois.view()], &[], &[0.7]).unwrap();
        assert_close(&out.values(), &means, 1e-12, 1e-12);
    });
}

#[test]
fn what_there_is_not_is_refused() {
    let input = made(&[2, 4, 5, 5], 1);
    let (out, argmax) = (Tensor::<f64>::zeros(&[1, 4, 1, 1]), Tensor::<i32>::zeros(&[1, 4, 1, 1]));
    for image in [2.0, -1.0, f64::NAN, 1e300] {
        let rois = Tensor::new(&[1, 5], |at| [image, 0.0, 0.0, 3.0, 3.0][at]);
        let align = run(Op::roi_align, &[out.view(), input.view(), rois.view()], &[2, 0], &[1.0]);
        let views = [out.view(), argmax.view(), input.view(), rois.view()];
        let others = [run(Op::roi_pool, &views, &[], &[1.0]), run(Op::ps_roi_align, &views, &[2], &[1.0])];
        for result in others.into_iter().chain([align, run(Op::ps_roi_pool, &views, &[], &[1.0])]) {
            assert_eq!(result.unwrap_err().kind(), Kind::Index);
        }
    }
    let rois = Tensor::new(&[1, 5], |at| [0.0, 0.0, 0.0, 3.0, 3.0][at]);
    for place in [25, -2] {
        let places = Tensor::new(&[1, 4, 1, 1], |_| place);
        let views = [input.view(), out.view(), rois.view(), places.view()];
        for (op, ints) in [(Op::roi_pool_backward, &[][..]), (Op::ps_roi_align_backward, &[2])] {
            assert_eq!(run(op, &views, ints, &[1.0]).unwrap_err().kind(), Kind::Index);
        }
        assert_eq!(run(Op::ps_roi_pool_backward, &views, &[], &[1.0]).unwrap_err().kind(), Kind::Index);
    }
    // Two bins of one channel.
    let views = [input.view(), out.view(), rois.view(), argmax.view()];
    assert!(run(Op::ps_roi_pool_backward, &views, &[], &[1.0]).is_err());
}

/// Taps: kernel (3, 2), stride (2, 1), padding (1, 0), dilation (1, 2), two groups of offsets.
const TAPS: [i64; 9] = [3, 2, 2, 1, 1, 0, 1, 2, 2];

fn columns(input: &Tensor<f64>, offset: &Tensor<f64>, mask: Option<&Tensor<f64>>) -> Tensor<f64> {
    let [positions, taps] = [offset.sizes[2] * offset.sizes[3], 6];
    let out = Tensor::<f64>::zeros(&[input.sizes[0], input.sizes[1] * taps, positions]);
    let mask = mask.map_or_else(rustorch_kernels::view::View::absent, Tensor::view);
    run(Op::deform_columns, &[out.view(), input.view(), offset.view(), mask], &TAPS, &[]).unwrap();
    out
}

#[test]
fn deformed_columns_and_their_gradients() {
    const INPUT: [i64; 4] = [2, 4, 7, 6];
    const OUT: [i64; 2] = [4, 4];
    let input = made(&INPUT, 1);
    let offset = Tensor::new(&[2, 24, OUT[0], OUT[1]], |at| 2.5 * noise(2)(at));
    let mask = made(&[2, 12, OUT[0], OUT[1]], 3);
    let (values, offsets, masks) = (input.values(), offset.values(), mask.values());
    let mut expected = Vec::new();
    for image in 0..2 {
        for (channel, tap) in (0..4).flat_map(|channel| (0..6).map(move |tap| (channel, tap))) {
            for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
                let group = image * 2 + channel / 2;
                let moved = |dim: usize| offsets[((group * 6 + tap) * 2 + dim) * 16 + row * 4 + column];
                let y = (row * 2 + tap / 2) as f64 - 1.0 + moved(0);
                let x = (column + tap % 2 * 2) as f64 + moved(1);
                // Outside of the image there are zeros.
                let pixel = |y: i64, x: i64| {
                    let inside = (0..7).contains(&y) && (0..6).contains(&x);
                    if inside { values[((image * 4 + channel) * 7 + y as usize) * 6 + x as usize] } else { 0.0 }
                };
                let mut sum = 0.0;
                for (down, across) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let (at_y, at_x) = (y.floor() as i64 + down, x.floor() as i64 + across);
                    sum += pixel(at_y, at_x) * (1.0 - (y - at_y as f64).abs()) * (1.0 - (x - at_x as f64).abs());
                }
                expected.push(sum * masks[(group * 6 + tap) * 16 + row * 4 + column]);
            }
        }
    }
    at_every_level(|_| {
        for ((input, offset), mask) in layouts(&input).iter().zip(layouts(&offset)).zip(layouts(&mask)) {
            assert_close(&columns(input, &offset, Some(&mask)).values(), &expected, 1e-12, 1e-12);
        }
        let grad = made(&[2, 24, 16], 4);
        for with_mask in [true, false] {
            let given = with_mask.then_some(&mask);
            let absent = rustorch_kernels::view::View::absent;
            let [grad_input, grad_offset, grad_mask] =
                [&input, &offset, &mask].map(|tensor| made(&tensor.sizes, 5).scattered(2));
            let of_mask = if with_mask { [grad_mask.view(), mask.view()] } else { [absent(), absent()] };
            let views = [grad_input.view(), grad_offset.view(), of_mask[0], grad.view(), input.view(), offset.view()];
            let views = [&views[..], &of_mask[1..]].concat();
            run(Op::deform_columns_backward, &views, &TAPS, &[]).unwrap();
            let out = columns(&input, &offset, given);
            assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_input)], 1e-10, 1e-12);
            if with_mask {
                assert_close(&[dot(&out, &grad)], &[dot(&mask, &grad_mask)], 1e-10, 1e-12);
            }
            // The slope along a direction, where no tap passes a pixel.
            let direction = made(&offset.sizes, 6);
            let moved = |step: f64| {
                let values: Vec<f64> =
                    offset.values().iter().zip(direction.values()).map(|(at, along)| at + step * along).collect();
                dot(&columns(&input, &Tensor::new(&offset.sizes, |at| values[at]), given), &grad)
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert_close(&[dot(&direction, &grad_offset)], &[slope], 1e-6, 1e-6);
        }
    });
    // Far away there is nothing, and NaN is far away.
    for far in [1e30, -1e30, f64::NAN] {
        let offset = Tensor::new(&offset.sizes, |_| far);
        assert!(columns(&input, &offset, Some(&mask)).values().iter().all(|&value| value == 0.0));
    }
}
