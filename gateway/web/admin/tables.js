/** Elements of the admin page: tables of figures, timelines, explanations, and the doctor's steps. */

/** Create an element with children, which are elements or texts; `level` is shown as a colour. */
export function element(name, { className = "", level = "" } = {}, ...children) {
  const created = document.createElement(name);
  if (className) created.className = className;
  if (level) created.dataset.level = level;
  created.append(...children.filter((child) => child !== ""));
  return created;
}

/**
 * Fill a table; a button in it keeps the focus.
 * @param {HTMLTableElement} table
 * @param {object[]} rows
 * @param {[string, (row: object) => (string|number|Element)][]} columns heading, and what a row shows below it
 */
export function fillTable(table, rows, columns) {
  const focused = table.contains(document.activeElement) ? cellIndex(table, document.activeElement) : null;
  if (!rows.length) {
    table.replaceChildren(element("caption", {}, "None."));
    return;
  }
  const isFigure = columns.map(([, cell]) => rows.every((row) => typeof cell(row) === "number" || cell(row) === "–"));
  const heading = element("tr", {}, ...columns.map(([name], index) => headingCell(name, isFigure[index])));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map(([, cell], index) => element("td", { className: isFigure[index] ? "figure" : "" }, shown(cell(row))))),
  );
  table.replaceChildren(element("thead", {}, heading), element("tbody", {}, ...body));
  if (focused) table.rows[focused.row]?.cells[focused.column]?.querySelector("button")?.focus();
}

function headingCell(name, isFigure) {
  const cell = element("th", { className: isFigure ? "figure" : "" }, name);
  cell.scope = "col";
  return cell;
}

function cellIndex(table, inside) {
  const cell = inside.closest("td");
  return cell && { row: cell.parentElement.rowIndex, column: cell.cellIndex };
}

const shown = (content) => (content instanceof Element ? content : String(content));

/** Return the list of a room's publishers, with what each may send, and why. */
export function showExplanation(publishers) {
  if (!publishers.length) return element("p", {}, "Nobody in this room publishes.");
  return element(
    "div",
    {},
    ...publishers.flatMap((publisher) => [
      element("h3", {}, `Session ${publisher.session}${publisher.applied ? "" : " (the SFU has not confirmed the limit yet)"}`),
      ...publisher.reasons.map((reason) => element("p", {}, reason)),
    ]),
  );
}

/** Return the table of a timeline's events. */
export function showTimeline(events) {
  const table = element("table");
  fillTable(table, events, [
    ["Time", (event) => new Date(event.at * 1000).toLocaleTimeString()],
    ["Session", (event) => event.session || "–"],
    ["What happened", (event) => event.text],
  ]);
  return element("div", { className: "scroll" }, table);
}

/** Return an item for each step of the doctor, with cause, evidence and change of those that failed. */
export function showSteps(results) {
  return results.map((result) => {
    const text = result.cause || result.evidence;
    const item = element("li", {}, element("span", { className: "level", level: result.state }, result.state), ` ${result.step}: ${text}`);
    if (result.state === "failed" || result.state === "warning") {
      for (const name of ["evidence", "change"]) {
        if (result[name]) item.append(element("p", { className: "detail" }, `${name}: ${result[name]}`));
      }
    }
    return item;
  });
}
