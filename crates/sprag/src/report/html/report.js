// The page is complete without this: it adds a filter and opens the details that a link points to.
(function () {
  var entries = Array.prototype.slice.call(document.querySelectorAll("details[data-mark]"));
  var bar = document.querySelector(".filter");
  var marks = entries.map(function (entry) { return entry.dataset.mark; });
  var kinds = marks.filter(function (mark, index) { return marks.indexOf(mark) === index; });
  function show(kind) {
    entries.forEach(function (entry) { entry.hidden = kind !== "all" && entry.dataset.mark !== kind; });
    Array.prototype.forEach.call(bar.children, function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    });
  }
  ["all"].concat(kinds).forEach(function (kind) {
    var count = kind === "all" ? marks.length : marks.filter(function (mark) { return mark === kind; }).length;
    var button = document.createElement("button");
    button.type = "button";
    button.dataset.kind = kind;
    button.textContent = kind + " " + count;
    button.onclick = function () { show(kind); };
    bar.appendChild(button);
  });
  bar.hidden = false;
  show("all");
  function follow() {
    var target = document.getElementById(location.hash.slice(1));
    if (target && target.parentNode.tagName === "DETAILS") {
      show("all");
      target.parentNode.open = true;
      target.parentNode.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", function (event) {
    var link = event.target.closest && event.target.closest("a");
    if (link && link.getAttribute("href") === location.hash) { follow(); }
  });
  follow();
})();
