// Sorts a table by the column whose heading is pressed; without this script it keeps the order of importance.
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const isNumber = table.tBodies[0].querySelector(`td:nth-child(${column + 1})[data-value]`) !== null;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const isUp = heading.ariaSort === null ? !isNumber : heading.ariaSort === "descending";
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      heading.ariaSort = isUp ? "ascending" : "descending";
      const sign = isUp ? 1 : -1;
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (isNumber ? a - b : a.localeCompare(b));
      });
      table.tBodies[0].append(...rows);
    });
  });
}
