//! Lines, markers and text in a picture, and how it becomes SVG or PNG. Knows nothing of axes.
//!
//! The font is a file of this crate, so that a picture is the same everywhere; SVG keeps text as text and leaves the font to
//! the viewer.

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::path::Path;
use std::sync::Once;

/// A PNG is drawn so many times larger than it is in the end, which smooths its lines.
const SMOOTH: u32 = 2;
/// Pixels of a PNG for each unit of the scene, times two.
const PNG_HALVES: u32 = 3;
/// Plotters centres the box of a text in bitmaps, which reaches further down than the letters do: by this part of the size.
const BITMAP_TEXT_DROP: f64 = 0.2;
/// The name by which both kinds of pictures know the font.
const FONT: &str = "sans-serif";

/// A place: right and down from the corner at the top left.
pub type Place = (f64, f64);

/// How a line runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stroke {
    /// Without a break.
    Solid,
    /// This long a dash, this long a break.
    Dashed(f64, f64),
}

/// What marks a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A disc.
    Disc,
    /// An empty triangle.
    Triangle,
    /// An empty square.
    Square,
    /// An empty diamond.
    Diamond,
    /// Two crossed lines.
    Cross,
}

/// Which part of a text lies at its place; it is centred in height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Its left end.
    Left,
    /// Its middle.
    Middle,
    /// Its right end.
    Right,
}

#[derive(Clone, Debug)]
enum Shape {
    Line { points: Vec<Place>, width: f64, color: RGBColor, stroke: Stroke },
    Mark { at: Place, mark: Mark, size: f64, color: RGBColor },
    Text { at: Place, text: String, size: f64, color: RGBColor, align: Align, upwards: bool },
}

/// A picture.
pub struct Scene {
    width: u32,
    height: u32,
    shapes: Vec<Shape>,
}

impl Scene {
    /// An empty white one.
    pub fn new(width: u32, height: u32) -> Scene {
        Scene { width, height, shapes: Vec::new() }
    }

    /// A line through points.
    pub fn line(&mut self, points: &[Place], width: f64, color: RGBColor, stroke: Stroke) {
        self.shapes.push(Shape::Line { points: points.to_vec(), width, color, stroke });
    }

    /// A marked point.
    pub fn mark(&mut self, at: Place, mark: Mark, size: f64, color: RGBColor) {
        self.shapes.push(Shape::Mark { at, mark, size, color });
    }

    /// A text in one line.
    pub fn text(&mut self, at: Place, text: &str, size: f64, color: RGBColor, align: Align) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, color, align, upwards: false });
    }

    /// A text that runs upwards, its middle at the place.
    pub fn text_upwards(&mut self, at: Place, text: &str, size: f64, color: RGBColor) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, color, align: Align::Middle, upwards: true });
    }

    /// Writes the picture as SVG.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (self.width, self.height)).into_drawing_area();
            self.draw(&area, 1.0, 0.0).context("the SVG cannot be drawn")?;
        }
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Writes the picture as PNG.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let (width, height) = (self.width * PNG_HALVES / 2, self.height * PNG_HALVES / 2);
        let (wide, high) = (width * SMOOTH, height * SMOOTH);
        let mut pixels = vec![0; (wide * high * 3) as usize];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area();
            let scale = f64::from(PNG_HALVES * SMOOTH) / 2.0;
            self.draw(&area, scale, BITMAP_TEXT_DROP).context("the PNG cannot be drawn")?;
        }
        let small = smaller(&pixels, wide as usize, high as usize);
        let file = std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        encoder.write_header()?.write_image_data(&small)?;
        Ok(())
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64, drop: f64) -> Result<()>
    where
        DB::ErrorType: 'static,
    {
        know_font();
        area.fill(&WHITE)?;
        let pixel = |(x, y): Place| ((x * scale).round() as i32, (y * scale).round() as i32);
        let wide = |width: f64| (width * scale).round().max(1.0) as u32;
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, width, color, stroke } => {
                    let style = color.stroke_width(wide(*width));
                    for part in dashes(points, *stroke) {
                        area.draw(&PathElement::new(part.into_iter().map(pixel).collect::<Vec<_>>(), style))?;
                    }
                }
                Shape::Mark { at, mark, size, color } => {
                    let line = color.stroke_width(wide(1.6));
                    let outline = |corners: &[Place]| -> Vec<(i32, i32)> {
                        corners.iter().map(|(x, y)| pixel((at.0 + x * size, at.1 + y * size))).collect()
                    };
                    match mark {
                        Mark::Disc => area.draw(&Circle::new(pixel(*at), wide(*size), color.filled()))?,
                        Mark::Cross => {
                            area.draw(&PathElement::new(outline(&[(-0.9, -0.9), (0.9, 0.9)]), line))?;
                            area.draw(&PathElement::new(outline(&[(-0.9, 0.9), (0.9, -0.9)]), line))?;
                        }
                        _ => {
                            let mut corners = outline(corners(*mark));
                            area.draw(&Polygon::new(corners.clone(), WHITE.filled()))?;
                            corners.push(corners[0]);
                            area.draw(&PathElement::new(corners, line))?;
                        }
                    }
                }
                Shape::Text { at, text, size, color, align, upwards } => {
                    let horizontal = match align {
                        Align::Left => HPos::Left,
                        Align::Middle => HPos::Center,
                        Align::Right => HPos::Right,
                    };
                    let font = (FONT, size * scale).into_font();
                    let font = if *upwards { font.transform(FontTransform::Rotate270) } else { font };
                    let style = TextStyle::from(font).color(color).pos(Pos::new(horizontal, VPos::Center));
                    let place = if *upwards { (at.0 + drop * size, at.1) } else { (at.0, at.1 + drop * size) };
                    area.draw(&Text::new(text.as_str(), pixel(place), style))?;
                }
            }
        }
        area.present().map_err(|error| anyhow!("{error}"))
    }
}

/// Corners of an empty mark of size one.
fn corners(mark: Mark) -> &'static [Place] {
    match mark {
        Mark::Triangle => &[(0.0, -1.1), (1.0, 0.8), (-1.0, 0.8)],
        Mark::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        _ => &[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
    }
}

/// How wide a text is.
pub fn text_width(text: &str, size: f64) -> f64 {
    know_font();
    // Whole pixels: measured large, then made small.
    let large = (FONT, size * 10.0).into_font();
    large.box_size(text).map_or(size * 0.5 * text.chars().count() as f64, |(width, _)| f64::from(width) / 10.0)
}

/// The font has to be known before any text is measured or drawn.
fn know_font() {
    static KNOWN: Once = Once::new();
    KNOWN.call_once(|| {
        let bytes = include_bytes!("../fonts/Roboto-Latin.ttf");
        if register_font(FONT, FontStyle::Normal, bytes).is_err() {
            unreachable!("the font is a file of this crate, and tests draw with it");
        }
    });
}

/// The parts of a line that are drawn.
fn dashes(points: &[Place], stroke: Stroke) -> Vec<Vec<Place>> {
    let Stroke::Dashed(dash, space) = stroke else { return vec![points.to_vec()] };
    let mut parts = Vec::new();
    // How far the present dash or break still goes, and which it is.
    let (mut left, mut drawing) = (dash, true);
    let mut part: Vec<Place> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (pair[0], pair[1]);
        loop {
            let rest = (to_x - x).hypot(to_y - y);
            if rest <= left {
                left -= rest;
                part.push((to_x, to_y));
                break;
            }
            (x, y) = (x + (to_x - x) * left / rest, y + (to_y - y) * left / rest);
            part.push((x, y));
            if drawing {
                parts.push(std::mem::take(&mut part));
            }
            part = vec![(x, y)];
            drawing = !drawing;
            left = if drawing { dash } else { space };
        }
    }
    if drawing && part.len() > 1 {
        parts.push(part);
    }
    parts
}

/// Half as wide and high: each pixel is the mean of four.
fn smaller(pixels: &[u8], wide: usize, high: usize) -> Vec<u8> {
    let step = SMOOTH as usize;
    let mut small = Vec::with_capacity(pixels.len() / step / step);
    for y in (0..high - high % step).step_by(step) {
        for x in (0..wide - wide % step).step_by(step) {
            for color in 0..3 {
                let at = |dx: usize, dy: usize| u32::from(pixels[((y + dy) * wide + x + dx) * 3 + color]);
                let sum: u32 =
                    (0..step).flat_map(|dy| (0..step).map(move |dx| (dx, dy))).map(|(dx, dy)| at(dx, dy)).sum();
                small.push((sum / (SMOOTH * SMOOTH)) as u8);
            }
        }
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_leave_out_what_lies_between_them() {
        let parts = dashes(&[(0.0, 0.0), (6.0, 0.0), (6.0, 4.0)], Stroke::Dashed(4.0, 1.0));
        assert_eq!(parts[0], [(0.0, 0.0), (4.0, 0.0)]);
        assert_eq!(parts[1], [(5.0, 0.0), (6.0, 0.0), (6.0, 3.0)], "a dash goes on around a corner");
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn an_svg_keeps_text_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(200, 100);
        scene.text((100.0, 50.0), "granularity, µs", 14.0, BLACK, Align::Middle);
        scene.write_svg(&folder.path().join("a.svg")).unwrap();
        let text = std::fs::read_to_string(folder.path().join("a.svg")).unwrap();
        assert!(text.contains("granularity, µs") && text.trim_end().ends_with("</svg>"), "{text}");
    }

    #[test]
    fn a_png_shows_what_was_drawn_where_it_was_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(200, 100);
        scene.mark((50.0, 50.0), Mark::Disc, 10.0, RGBColor(255, 0, 0));
        scene.text((150.0, 50.0), "MMM", 14.0, BLACK, Align::Middle);
        let path = folder.path().join("a.png");
        scene.write_png(&path).unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (300, 150));
        let at = |x: usize, y: usize| &pixels[(y * 300 + x) * 3..][..3];
        assert_eq!(at(75, 75), [255, 0, 0]);
        assert_eq!(at(5, 5), [255, 255, 255]);
        let dark = (195..255).flat_map(|x| (60..90).map(move |y| (x, y))).filter(|&(x, y)| at(x, y)[0] < 100).count();
        assert!(dark > 30, "text has been drawn: {dark} dark pixels");
    }

    #[test]
    fn longer_texts_are_wider() {
        assert!(text_width("simulated", 14.0) > 1.5 * text_width("simul", 14.0));
        assert!(text_width("W", 28.0) > 1.8 * text_width("W", 14.0));
    }
}
