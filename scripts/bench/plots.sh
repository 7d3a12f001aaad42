# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# plots.sh of bench.sh: the bars of a comparison's page as pictures of their own, which a README can show.

# plots PAGE: beside the page, one SVG for each kind of rows and unit, in light and dark as the page itself.
plots() {
    local page=$1 title file
    while IFS= read -r title; do
        # The bars' titles are a kind and a unit: "tcp, Gbit/s."
        file=${title%.}
        file=${page%.html}-$(sed 's/[^A-Za-z0-9%]\+/-/g; s/%/percent/' <<<"$file").svg
        awk -v title="aria-label=\"$title\"" '
            /^:root|^@media \(prefers-color-scheme/ { colors = 1 }
            colors { style = style $0 "\n" }
            /^}/ { colors = 0 }
            index($0, title) {
                sub(/.*<svg/, "<svg xmlns=\"http://www.w3.org/2000/svg\"")
                inside = 1
                print
                printf "<style>\n%ssvg { background: var(--card); font-family: system-ui, sans-serif }\n</style>\n", style
                next
            }
            inside && /<\/svg>/ { sub(/<\/svg>.*/, "</svg>"); print; exit }
            inside { print }' "$page" >"$file"
        echo "plot: $file"
    done < <(grep -o 'aria-label="[a-z]*, [^"]*"' "$page" | sed 's/aria-label="//; s/"$//')
}
