// The figures of `/metrics`, in Prometheus' text form.

export type Figures = Map<string, { labels: Record<string, string>; value: number }[]>;

export function figuresOf(text: string): Figures {
  const figures: Figures = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name, inside = "", value] = found;
    const labels: Record<string, string> = {};
    for (const [, label, said] of inside.matchAll(/(\w+)="([^"]*)"/g)) labels[label] = said;
    const rows = figures.get(name) ?? [];
    rows.push({ labels, value: Number(value) });
    figures.set(name, rows);
  }
  return figures;
}

/** The sum of the rows of that name that are wanted. */
export function sum(
  figures: Figures,
  name: string,
  isWanted: (labels: Record<string, string>) => boolean = () => true,
): number {
  const rows = figures.get(name) ?? [];
  return rows.filter((row) => isWanted(row.labels)).reduce((all, row) => all + row.value, 0);
}
