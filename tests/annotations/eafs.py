"""Files of ELAN in small."""

from collections.abc import Mapping, Sequence

FULL = """<?xml version="1.0" encoding="UTF-8"?>
<!-- by hand -->
<ANNOTATION_DOCUMENT AUTHOR="Ana &amp; B" DATE="2024-01-01T00:00:00+01:00" FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <LICENSE LICENSE_URL="http://x.org/l">CC BY</LICENSE>
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/old place/story.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./story.mp4" TIME_ORIGIN="500"/>
        <MEDIA_DESCRIPTOR EXTRACTED_FROM="file:///C:/old place/story.mp4" MEDIA_URL="file:///C:/old%20place/story.wav" MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./story.wav" TIME_ORIGIN="250"/>
        <LINKED_FILE_DESCRIPTOR ASSOCIATED_WITH="file:///story.mp4" LINK_URL="file:///C:/gaze.csv" MIME_TYPE="unknown" RELATIVE_LINK_URL="./gaze.csv" TIME_ORIGIN="5"/>
        <PROPERTY NAME="URN">urn:nl-mpi-tools-elan-eaf:1</PROPERTY>
        <PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>
        <TIME_SLOT TIME_SLOT_ID="ts2"/>
        <TIME_SLOT TIME_SLOT_ID="ts3"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="2500"/>
        <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="3000"/>
        <TIME_SLOT TIME_SLOT_ID="ts6" TIME_VALUE="4000"/>
    </TIME_ORDER>
    <TIER ANNOTATOR="Ana" DEFAULT_LOCALE="en" LANG_REF="mdw" LINGUISTIC_TYPE_REF="utterance" PARTICIPANT="Obia" TIER_ID="tx@O">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" EXT_REF="er1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
                <ANNOTATION_VALUE>wó twεrε</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE>ya  &lt;poo&gt;
 </ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
                <ANNOTATION_VALUE></ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a4" TIME_SLOT_REF1="ts5" TIME_SLOT_REF2="ts6">
                <ANNOTATION_VALUE>obia</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="tx@O" PARTICIPANT="Obia" TIER_ID="w@O">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a6" ANNOTATION_REF="a1" CVE_REF="cve1" PREVIOUS_ANNOTATION="a5">
                <ANNOTATION_VALUE>twεrε</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a1">
                <ANNOTATION_VALUE>wó</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="gloss" PARENT_REF="w@O" TIER_ID="ge@O">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a7" ANNOTATION_REF="a6">
                <ANNOTATION_VALUE>go</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a8" ANNOTATION_REF="a5">
                <ANNOTATION_VALUE>he</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <LINGUISTIC_TYPE CONTROLLED_VOCABULARY_REF="cv" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="utterance" TIME_ALIGNABLE="true"/>
    <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Subdivision" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="words" TIME_ALIGNABLE="false"/>
    <LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="gloss" TIME_ALIGNABLE="false"/>
    <LOCALE COUNTRY_CODE="US" LANGUAGE_CODE="en"/>
    <LANGUAGE LANG_DEF="http://cdb.iso.org/lg/CDB-1" LANG_ID="mdw" LANG_LABEL="Mbochi (mdw)"/>
    <CONSTRAINT DESCRIPTION="1-1 association with a parent annotation" STEREOTYPE="Symbolic_Association"/>
    <CONTROLLED_VOCABULARY CV_ID="cv" EXT_REF="er2">
        <DESCRIPTION LANG_REF="mdw"></DESCRIPTION>
        <CV_ENTRY_ML CVE_ID="cve1"><CVE_VALUE DESCRIPTION="d" LANG_REF="mdw">twεrε</CVE_VALUE></CV_ENTRY_ML>
    </CONTROLLED_VOCABULARY>
    <LEXICON_REF LEX_REF_ID="lx" NAME="n" TYPE="t" URL="u" LEXICON_ID="1" LEXICON_NAME="l"/>
    <REF_LINK_SET LINK_SET_ID="rl1"><CROSS_REF_LINK REF_LINK_ID="l1" REF1="a1" REF2="a4" REF_TYPE="same"/></REF_LINK_SET>
    <EXTERNAL_REF EXT_REF_ID="er1" TYPE="iso12620" VALUE="v"/>
    <EXTERNAL_REF EXT_REF_ID="er2" TYPE="ecv" VALUE="http://x.org/v.ecv"/>
</ANNOTATION_DOCUMENT>
"""  # noqa: E501
"""References, a vocabulary, slots without a time, TIME_ORIGIN, linked files, links, a comment."""

Rows = Sequence[tuple[float, float, str]]


def small(
    tiers: Mapping[str, Rows], media: str = "", kind: str = "default-lt", **given: str
) -> str:
    """A file with tiers of one type; `given` are attributes of each TIER."""
    slots, parts, number = [], [], 0
    for name, rows in tiers.items():
        more = "".join(f' {key}="{value}"' for key, value in given.items())
        parts.append(f'<TIER LINGUISTIC_TYPE_REF="{kind}" TIER_ID="{name}"{more}>')
        for start_s, end_s, text in rows:
            number += 1
            for place, time_s in ((1, start_s), (2, end_s)):
                slots.append(
                    f'<TIME_SLOT TIME_SLOT_ID="ts{2 * number + place}" '
                    f'TIME_VALUE="{round(time_s * 1000)}"/>'
                )
            parts.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
                f'TIME_SLOT_REF1="ts{2 * number + 1}" TIME_SLOT_REF2="ts{2 * number + 2}">'
                f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        parts.append("</TIER>")
    named = f'<MEDIA_DESCRIPTOR MEDIA_URL="{media}" MIME_TYPE="video/mp4"/>' if media else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="x" '
        f'FORMAT="2.8" VERSION="2.8"><HEADER TIME_UNITS="milliseconds">{named}</HEADER>'
        f"<TIME_ORDER>{''.join(slots)}</TIME_ORDER>{''.join(parts)}"
        f'<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="{kind}" TIME_ALIGNABLE="true"/>'
        "</ANNOTATION_DOCUMENT>\n"
    )


TWO = {"A": [(0.5, 1.5, "one two"), (2.0, 3.0, "three")], "B": [(1.0, 2.5, "four")]}
