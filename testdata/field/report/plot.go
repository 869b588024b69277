package report

import (
	"bytes"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"example.com/field/tool"
)

// Plots bring a background of their own, so that one file can be read on light
// pages and on dark ones.
var (
	paper = color.RGBA{0xfb, 0xfb, 0xfa, 0xff}
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xff}
	faint = color.RGBA{0xd9, 0xd9, 0xd6, 0xff}
)

// colors are those of the tools, by how their names begin.
var colors = []struct {
	prefix string
	color  color.RGBA
}{
	{"kvmigrate", color.RGBA{0xd5, 0x3e, 0x1f, 0xff}},
	{"badger", color.RGBA{0x44, 0x44, 0x44, 0xff}},
	{"bbolt", color.RGBA{0x2f, 0x8f, 0x4e, 0xff}},
	{"goose", color.RGBA{0x1f, 0x6f, 0xb4, 0xff}},
	{"golang-migrate", color.RGBA{0x7d, 0x4f, 0xb5, 0xff}},
	{"", color.RGBA{0x94, 0x6c, 0x0d, 0xff}},
}

func colorOf(t tool.Tool) color.RGBA {
	for _, c := range colors {
		if strings.HasPrefix(t.Name, c.prefix) {
			return c.color
		}
	}
	return ink
}

// Plots returns the plots as SVG, by the name of the file.
func (res *Results) Plots() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, m := range measures {
		if m.plot == "" {
			continue
		}
		draw := res.ranges
		if m.lines {
			draw = res.lines
		}
		data, err := draw(m)
		if err != nil {
			return nil, err
		}
		files[m.plot+".svg"] = data
	}
	return files, nil
}

const width = 8 * vg.Inch

// newPlot returns an empty plot in our colours.
func newPlot() *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.BackgroundColor = paper
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	p.Add(grid)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Label.TextStyle.Color = ink, ink
		axis.Tick.Color, axis.Tick.Label.Color = ink, ink
		axis.Tick.Label.Font.Size, axis.Label.TextStyle.Font.Size = 10, 10
	}
	p.Title.TextStyle.Color, p.Title.TextStyle.Font.Size = ink, 11
	p.Title.Padding = vg.Points(4)
	return p
}

// ranges draws a panel for each case, and in it for each tool a point at the median
// and a line from the minimum to the maximum.
func (res *Results) ranges(m measure) ([]byte, error) {
	var panels [][]*plot.Plot
	height := vg.Length(0)
	for _, which := range res.casesOf(m) {
		p, tools, err := res.panel(m, which)
		if err != nil {
			return nil, err
		}
		panels = append(panels, []*plot.Plot{p})
		height = max(height, vg.Points(float64(17*tools+58)))
	}
	return render(panels, height*vg.Length(len(panels)))
}

func (res *Results) panel(m measure, which string) (p *plot.Plot, shown int, err error) {
	p = newPlot()
	p.Title.Text, p.X.Label.Text = title(which), m.axis
	var names []string
	low, high := math.Inf(1), 0.0
	all := res.tools(m.scenario)
	for i := range all {
		t := all[len(all)-1-i] // the first one is on top
		values := res.find(m.scenario, which, t.Name).values(m.unit)
		if len(values) == 0 {
			continue
		}
		s := spreadOf(values)
		low, high = min(low, s.min), max(high, s.max)
		y := float64(len(names))
		names = append(names, t.Name)
		if err := addRange(p, s, y, colorOf(t), m.write); err != nil {
			return nil, 0, err
		}
	}
	p.NominalY(names...)
	p.Y.Tick.Label.XAlign = draw.XRight
	p.Y.Min, p.Y.Max = -0.6, float64(len(names))-0.4
	logAxis(&p.X, low, high*1.9, m.base(), m.write)
	return p, len(names), nil
}

func addRange(p *plot.Plot, s spread, y float64, c color.Color, write quantity) error {
	line, err := plotter.NewLine(plotter.XYs{{X: s.min, Y: y}, {X: s.max, Y: y}})
	if err != nil {
		return err
	}
	line.Color, line.Width = c, vg.Points(2)
	point, err := plotter.NewScatter(plotter.XYs{{X: s.median, Y: y}})
	if err != nil {
		return err
	}
	point.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: s.max, Y: y}}, Labels: []string{write(s.median)}})
	if err != nil {
		return err
	}
	style := &label.TextStyle[0]
	style.Color, style.Font.Size, style.YAlign = ink, 9, draw.YCenter
	label.Offset = vg.Point{X: vg.Points(7)}
	p.Add(line, point, label)
	return nil
}

// lines draws a line for each tool over the sizes of the cases.
func (res *Results) lines(m measure) ([]byte, error) {
	p := newPlot()
	p.Y.Label.Text = m.axis
	// Text to the right of the signs may be wider than Liberation's.
	p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, width*0.62, vg.Points(3)
	p.Legend.Top, p.Legend.TextStyle.Color, p.Legend.TextStyle.Font.Size = true, ink, 10
	low, high := math.Inf(1), 0.0
	cases := res.casesOf(m)
	for i, t := range res.tools(m.scenario) {
		var medians plotter.XYs
		for _, which := range cases {
			values := res.find(m.scenario, which, t.Name).values(m.unit)
			if len(values) == 0 {
				continue
			}
			s := spreadOf(values)
			low, high = min(low, s.min), max(high, s.max)
			medians = append(medians, plotter.XY{X: float64(size(which)), Y: s.median})
			whisker, err := plotter.NewLine(plotter.XYs{{X: float64(size(which)), Y: s.min}, {X: float64(size(which)), Y: s.max}})
			if err != nil {
				return nil, err
			}
			whisker.Color, whisker.Width = colorOf(t), vg.Points(1)
			p.Add(whisker)
		}
		line, points, err := plotter.NewLinePoints(medians)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = colorOf(t), vg.Points(1.5)
		shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.PlusGlyph{}, draw.CrossGlyph{}}
		points.GlyphStyle = draw.GlyphStyle{Color: colorOf(t), Radius: vg.Points(3.5), Shape: shapes[i%len(shapes)]}
		p.Add(line, points)
		p.Legend.Add(t.Name, line, points)
	}
	p.X.Label.Text, _, _ = strings.Cut(cases[0], "=")
	first, last := float64(size(cases[0])), float64(size(cases[len(cases)-1]))
	logAxis(&p.X, first, last*math.Pow(last/first, 0.5)*2, 1, func(v float64) string { // room for the legend
		if v > last {
			return ""
		}
		return digits(v)
	})
	p.X.Min = first
	logAxis(&p.Y, low, high, m.base(), m.write)
	return render([][]*plot.Plot{{p}}, 4.2*vg.Inch)
}

// logAxis makes axis logarithmic, with a tick at base times every power of ten, or more
// where there are few of those.
func logAxis(axis *plot.Axis, low, high, base float64, write quantity) {
	axis.Scale = plot.LogScale{}
	axis.Min, axis.Max = low*0.8, high*1.25
	steps := []float64{1}
	switch {
	case axis.Max/axis.Min < 8:
		steps = []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7}
	case axis.Max/axis.Min < 300:
		steps = []float64{1, 2, 5}
	}
	var ticks plot.ConstantTicks
	for e := math.Floor(math.Log10(axis.Min / base)); e <= math.Ceil(math.Log10(axis.Max/base)); e++ {
		for _, step := range steps {
			v := base * step * math.Pow(10, e)
			if label := write(v); label != "" && v >= axis.Min && v <= axis.Max {
				ticks = append(ticks, plot.Tick{Value: v, Label: whole(label)})
			}
		}
	}
	axis.Tick.Marker = ticks
}

// whole leaves out decimals that are zero.
func whole(text string) string {
	number, unit, _ := strings.Cut(text, " ")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return strings.TrimSpace(number + " " + unit)
}

// render draws panels below each other.
func render(panels [][]*plot.Plot, height vg.Length) ([]byte, error) {
	canvas := vgsvg.New(width, height)
	area := draw.New(canvas)
	area.SetColor(paper)
	area.Fill(area.Path())
	tiles := draw.Tiles{
		Rows: len(panels), Cols: 1, PadY: vg.Points(6),
		PadTop: vg.Points(8), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(12),
	}
	for i, row := range plot.Align(panels, tiles, area) {
		panels[i][0].Draw(row[0])
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// Where the font is missing, one with the same widths stands in.
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")), nil
}
